// What operators of ours share: their inputs, outputs and parts as ONNX Runtime hands them out.

#pragma once

#include "onnxruntime_abi.h"

#include <algorithm>

namespace operators {

constexpr size_t MOST_SIDES = 5;

struct Tensor {
    size_t rank = 0;
    int64_t sides[MOST_SIDES] = {-1, -1, -1, -1, -1};  // -1 everywhere where there are more
    void* data = nullptr;

    const float* floats() const { return static_cast<const float*>(data); }
};

// The state of a node: ONNX Runtime's interface, and the one attribute that some have.
struct Node {
    ort::Api* api;
    int64_t heads;
};

// An operator of the domain `cropseg`, float32 but for one input of int64.
struct Operator {
    ort::Operator base;  // first: ONNX Runtime passes this address
    char name[24];
    size_t inputs;
    int integers;  // which input is int64; -1 for none
};

inline Tensor input(const Node& node, ort::Context* context, size_t at) {
    Tensor tensor;
    const ort::Value* value = nullptr;
    ort::Shape* shape = nullptr;
    ort::call<ort::INPUT>(node.api, (const ort::Context*)context, at, &value);
    ort::call<ort::TENSOR_SHAPE>(node.api, value, &shape);
    ort::call<ort::DIMENSIONS_COUNT>(node.api, (const ort::Shape*)shape, &tensor.rank);
    if (tensor.rank <= MOST_SIDES)
        ort::call<ort::DIMENSIONS>(node.api, (const ort::Shape*)shape, tensor.sides, tensor.rank);
    ort::release<ort::RELEASE_SHAPE>(node.api, shape);
    ort::call<ort::TENSOR_DATA>(node.api, (ort::Value*)value, &tensor.data);
    return tensor;
}

// The output, to be filled; null where there is none, which ONNX Runtime then says.
inline float* output(const Node& node, ort::Context* context, const int64_t* sides, size_t count) {
    ort::Value* made = nullptr;
    float* data = nullptr;
    ort::call<ort::OUTPUT>(node.api, context, (size_t)0, sides, count, &made);
    if (made) ort::call<ort::TENSOR_DATA>(node.api, made, (void**)&data);
    return data;
}

// Inputs that do not fit together: a mask made of NaN is INVALID.
inline void refuse(float* out, int64_t count) {
    std::fill(out, out + count, __builtin_nanf(""));
}

inline void in_parts(const Node& node, ort::Context* context, void (*part)(void*, size_t),
                     size_t parts, void* work) {
    const size_t batches = 0;  // ONNX Runtime's choice
    ort::call<ort::PARALLEL_FOR>(node.api, (const ort::Context*)context, part, parts, batches,
                                 work);
}

inline void* create(const ort::Operator*, ort::Api* api, const ort::Info* info) {
    Node* node = new Node{api, 1};
    ort::Status* status = ort::call<ort::ATTRIBUTE_INT64>(api, info, "heads", &node->heads);
    if (status) ort::release<ort::RELEASE_STATUS>(api, status);
    return node;
}

inline const Operator& own(const ort::Operator* op) {
    return *reinterpret_cast<const Operator*>(op);
}

template <size_t LENGTH>
Operator make(const char (&name)[LENGTH], size_t inputs, int integers,
              void (*compute)(void* node, ort::Context*)) {
    static_assert(LENGTH <= sizeof Operator::name, "no place for the name");
    Operator made = {
        {
            10,
            create,
            [](const ort::Operator* op) { return own(op).name; },
            [](const ort::Operator*) -> const char* { return nullptr; },
            [](const ort::Operator* op, size_t at) {
                return (int)at == own(op).integers ? ort::INT64 : ort::FLOAT;
            },
            [](const ort::Operator* op) { return own(op).inputs; },
            [](const ort::Operator*, size_t) { return ort::FLOAT; },
            [](const ort::Operator*) { return (size_t)1; },
            compute,
            [](void* node) { delete static_cast<Node*>(node); },
            [](const ort::Operator*, size_t) { return ort::REQUIRED; },
            [](const ort::Operator*, size_t) { return ort::REQUIRED; },
        },
        {},
        inputs,
        integers,
    };
    std::copy(name, name + LENGTH, made.name);
    return made;
}

// One of each number of levels: their bodies differ, and a graph knows them by name.
extern const Operator DEFORMABLE_ATTENTION[4];
extern const Operator ATTENTION, DEPTHWISE_CONVOLUTION;

}  // namespace operators
