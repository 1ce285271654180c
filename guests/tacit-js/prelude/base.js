// What all other parts of the prelude use. Each file is the body of a function of (native, web):
// `native` is the door to Rust, `web` collects what the prelude's files share with each other.
"use strict";

web.define = (name, value) =>
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });

web.tag = (Class, name) =>
  Object.defineProperty(Class.prototype, Symbol.toStringTag, { value: name, configurable: true });

web.required = (name, given, needed) => {
  if (given < needed) throw new TypeError(`${name}: ${needed} argument${needed === 1 ? "" : "s"} required, but only ${given} present`);
};

// The bytes of a BufferSource, without copying.
web.bytesOf = (source) => {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  throw new TypeError("expected an ArrayBuffer or a view of one");
};

web.isBytes = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);

web.utf8 = (text) => native.utf8Encode(String(text).toWellFormed());
web.fromUtf8 = (bytes) => native.utf8Decode(bytes, false, true);
