// The operators of this package as ONNX Runtime asks for them.

#include "operator.h"

// What `SessionOptions.register_custom_ops_library` calls.
extern "C" ort::Status* RegisterCustomOps(ort::Options* options, const ort::ApiBase* base) {
    ort::Api* api = base->get_api(ort::VERSION);
    if (!api) return nullptr;  // older than 1.17: the graph's own nodes do the work
    ort::Domain* domain = nullptr;
    ort::Status* status = ort::call<ort::CREATE_DOMAIN>(api, "cropseg", &domain);
    const auto add = [&](const operators::Operator& op) {
        if (!status) status = ort::call<ort::ADD_TO_DOMAIN>(api, domain, &op.base);
    };
    for (const operators::Operator& op : operators::DEFORMABLE_ATTENTION) add(op);
    add(operators::ATTENTION);
    add(operators::DEPTHWISE_CONVOLUTION);
    if (!status) status = ort::call<ort::ADD_DOMAIN>(api, options, domain);
    return status;
}
