"use strict";

// Values are kept as JSON text, or, for bytes, as a zero byte and the bytes: JSON text never begins with one.
const pack = (value) => {
  if (web.isBytes(value)) {
    const bytes = web.bytesOf(value);
    const packed = new Uint8Array(bytes.length + 1);
    packed.set(bytes, 1);
    return packed;
  }
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError("state: a value must be JSON or bytes");
  return web.utf8(text);
};
const unpack = (bytes) => (bytes[0] === 0 ? bytes.slice(1) : JSON.parse(web.fromUtf8(bytes)));
const keyOf = (key) => {
  if (typeof key !== "string") throw new TypeError("state: a key must be a string");
  return key.toWellFormed();
};

const access = {
  async get(key) {
    const bytes = native.stateGet(keyOf(key));
    return bytes === null ? undefined : unpack(bytes);
  },
  async set(key, value) { native.stateSet(keyOf(key), pack(value)); },
  async delete(key) { native.stateDelete(keyOf(key)); },
  async list(prefix = "", after = null, limit = 100) {
    const flat = native.stateList(keyOf(prefix), after === null || after === undefined ? null : keyOf(after), Number(limit));
    const entries = [];
    for (let i = 0; i < flat.length; i += 2) entries.push({ key: flat[i], value: unpack(flat[i + 1]) });
    return entries;
  },
};

// All writes of the call made while `body` runs are kept together or dropped together.
const savepoint = async (body, transaction) => {
  native.stateBegin();
  let result;
  try {
    result = await body(transaction);
  } catch (error) {
    native.stateRollback();
    throw error;
  }
  native.stateCommit();
  return result;
};
const inside = { ...access, transaction: (body) => savepoint(body, inside) };

let last = Promise.resolve();
const state = {
  ...access,
  // Transactions of one call run one after the other; one inside another goes through the argument of `body`.
  transaction(body) {
    const run = last.then(() => savepoint(body, inside));
    last = run.catch(() => {});
    return run;
  },
};

const textOf = (name, value) => {
  if (typeof value !== "string") throw new TypeError(`chain.publish: ${name} must be a string`);
  return value.toWellFormed();
};
const dataOf = (data) => {
  if (web.isBytes(data)) return web.bytesOf(data);
  if (typeof data === "string" && /^0x(?:[0-9a-f]{2})*$/i.test(data)) return Uint8Array.fromHex(data.slice(2));
  throw new TypeError("chain.publish: data must be bytes or 0x-hex");
};

const chain = {
  // The sequence of the publication. What a failed call published never leaves the worker.
  async publish({ chain, contract, topic, data }) {
    return native.chainPublish(textOf("chain", chain), textOf("contract", contract), textOf("topic", topic), dataOf(data));
  },
};

const secrets = {
  get(name) {
    const value = native.secretGet(String(name));
    return value === null ? undefined : value;
  },
};

let info = null;
const request = {};
for (const name of ["caller", "callId", "method", "deadline", "trigger", "version"]) {
  Object.defineProperty(request, name, { get: () => (info ??= native.request())[name], enumerable: true });
}

const log = {};
for (const [level, name] of ["debug", "info", "warn", "error"].entries()) {
  log[name] = (message, fields) => native.log(level, fields === undefined ? String(message) : `${message} ${JSON.stringify(fields)}`);
}

web.module = { state: Object.freeze(state), chain: Object.freeze(chain), secrets: Object.freeze(secrets), model: web.model, request: Object.freeze(request), log: Object.freeze(log) };
