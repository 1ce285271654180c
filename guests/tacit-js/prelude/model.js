"use strict";

// Models of the function's own worker. Requests and answers have the form of the OpenAI interface.
const start = (task, request, options) => new Promise((resolve, reject) => {
  const text = JSON.stringify(request);
  if (text === undefined) throw new TypeError("model: a request must be JSON");
  const signal = options?.signal ?? null;
  if (signal?.aborted) return reject(signal.reason);
  const id = native.modelStart(task, web.utf8(text));
  web.exchange(id, signal, reject, ([status, headers, bytes]) => {
    const body = JSON.parse(web.fromUtf8(bytes));
    if (status === 200) return resolve({ ...body, receipt: headers.length ? JSON.parse(headers[1]) : null });
    // A request that the model cannot serve, or a model that failed.
    const { message, code, param } = body.error;
    const refused = Object.assign(new Error(message), { name: "ModelError", code: code ?? "model_error", status });
    if (param) refused.param = param;
    reject(refused);
  });
});

const arrays = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array, boolean: Uint8Array,
};

const elementOf = (name, { data, type }) => {
  const element = type ?? Object.keys(arrays).find((key) => data instanceof arrays[key]);
  if (!Object.hasOwn(arrays, element ?? "") || !(data instanceof arrays[element])) {
    throw new TypeError(`model.run: the data of "${name}" must be an array of one of the types ${Object.keys(arrays).join(", ")}`);
  }
  return element;
};

const run = (name, inputs) => {
  const entries = Object.entries(inputs ?? {});
  const outputs = native.modelRun(
    String(name).toWellFormed(),
    entries.map(([input]) => input.toWellFormed()),
    entries.map(([input, tensor]) => elementOf(input, tensor)),
    entries.map(([, { data, shape }]) => Array.from(shape ?? [data.length], Number)),
    entries.map(([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  );
  const tensors = {};
  for (const [output, type, shape, bytes] of outputs) {
    tensors[output] = { type, shape, data: new arrays[type](bytes.buffer) };
  }
  return tensors;
};

web.model = Object.freeze({
  chat: (request, options) => start(0, request, options),
  complete: (request, options) => start(1, request, options),
  embed: (request, options) => start(2, request, options),
  async run(name, inputs) { return run(name, inputs); },
});
