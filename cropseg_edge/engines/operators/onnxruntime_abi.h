// The few parts of ONNX Runtime's C interface that an operator of one's own needs, declared here
// because its Python package brings no headers. The interface only ever grows at its end: a place
// in its table of functions stays what it is (onnxruntime_c_api.h; 17 is ONNX Runtime 1.17).

#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t VERSION = 17;
constexpr int FLOAT = 1, INT64 = 7, CPU_INPUT = 0, REQUIRED = 0;

struct Status;
struct Options;
struct Domain;
struct Info;
struct Context;
struct Value;
struct Shape;

using Api = void (*const)();  // the first of the table's functions

struct ApiBase {
    Api* (*get_api)(uint32_t version);
    const char* (*version)();
};

template <int PLACE, typename... Arguments>
inline Status* call(Api* api, Arguments... arguments) {
    return reinterpret_cast<Status* (*)(Arguments...)>(api[PLACE])(arguments...);
}

template <int PLACE, typename Object>
inline void release(Api* api, Object* object) {
    reinterpret_cast<void (*)(Object*)>(api[PLACE])(object);
}

enum Place {
    CREATE_STATUS = 0,
    CREATE_DOMAIN = 26,
    ADD_TO_DOMAIN = 27,
    ADD_DOMAIN = 28,
    TENSOR_DATA = 51,
    DIMENSIONS_COUNT = 61,
    DIMENSIONS = 62,
    TENSOR_SHAPE = 65,
    ATTRIBUTE_INT64 = 86,
    INPUT = 90,
    OUTPUT = 91,
    RELEASE_STATUS = 93,
    RELEASE_SHAPE = 99,
    PARALLEL_FOR = 274,
};

// An operator: what ONNX Runtime asks of it, in this order, and no more than its `version` has.
struct Operator {
    uint32_t version;
    void* (*create)(const Operator*, Api*, const Info*);
    const char* (*name)(const Operator*);
    const char* (*provider)(const Operator*);
    int (*input_type)(const Operator*, size_t);
    size_t (*inputs)(const Operator*);
    int (*output_type)(const Operator*, size_t);
    size_t (*outputs)(const Operator*);
    void (*compute)(void* kernel, Context*);
    void (*destroy)(void* kernel);
    int (*input_need)(const Operator*, size_t);
    int (*output_need)(const Operator*, size_t);
};

}  // namespace ort
