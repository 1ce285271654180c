"use strict";

const errors = new Map([Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError].map((Class) => [Class.name, Class]));
const boxes = [Boolean, Number, String, BigInt];

const refuse = (value) => {
  const what = typeof value === "function" ? "a function" : typeof value === "symbol" ? "a symbol" : "this object";
  throw new DOMException(`structuredClone: ${what} cannot be cloned`, "DataCloneError");
};

const copy = (value, seen) => {
  if (typeof value === "function" || typeof value === "symbol") refuse(value);
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = (result) => { seen.set(value, result); return result; };
  for (const Box of boxes) if (value instanceof Box) return keep(Object(value.valueOf()));
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    const buffer = copy(value.buffer, seen);
    return keep(value instanceof DataView
      ? new DataView(buffer, value.byteOffset, value.byteLength)
      : new value.constructor(buffer, value.byteOffset, value.length));
  }
  if (value instanceof Map) {
    const result = keep(new Map());
    for (const [name, entry] of [...value]) result.set(copy(name, seen), copy(entry, seen));
    return result;
  }
  if (value instanceof Set) {
    const result = keep(new Set());
    for (const entry of [...value]) result.add(copy(entry, seen));
    return result;
  }
  if (value instanceof Error) {
    const Class = errors.get(value.name) ?? Error;
    const result = keep(new Class(value.message));
    Object.defineProperty(result, "stack", { value: value.stack, writable: true, configurable: true });
    if ("cause" in value) Object.defineProperty(result, "cause", { value: copy(value.cause, seen), writable: true, configurable: true });
    return result;
  }
  if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) refuse(value);
  const result = keep(Array.isArray(value) ? new Array(value.length) : {});
  for (const name of Object.keys(value)) result[name] = copy(value[name], seen);
  return result;
};

web.define("structuredClone", function structuredClone(value, options) {
  web.required("structuredClone", arguments.length, 1);
  if (options?.transfer?.length > 0) throw new DOMException("structuredClone: transfer is not supported", "DataCloneError");
  return copy(value, new Map());
});
