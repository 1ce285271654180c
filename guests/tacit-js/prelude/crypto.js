"use strict";

const integerArrays = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];

class SubtleCrypto {
  async digest(algorithm, data) {
    const name = String(typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm).toUpperCase();
    const digest = native.digest(name, web.bytesOf(data));
    if (digest === null) throw new DOMException(`crypto.subtle.digest: the algorithm "${name}" is not supported`, "NotSupportedError");
    return digest.buffer;
  }
}

class Crypto {
  #subtle = new SubtleCrypto();
  get subtle() { return this.#subtle; }
  getRandomValues(view) {
    if (!integerArrays.some((Class) => view instanceof Class)) throw new DOMException("crypto.getRandomValues: expected an integer typed array", "TypeMismatchError");
    if (view.byteLength > 65536) throw new DOMException("crypto.getRandomValues: at most 65536 bytes at a time", "QuotaExceededError");
    web.bytesOf(view).set(native.random(view.byteLength));
    return view;
  }
  randomUUID() {
    const bytes = native.random(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = bytes.toHex();
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
}

for (const [name, Class] of Object.entries({ Crypto, SubtleCrypto })) {
  web.tag(Class, name);
  web.define(name, Class);
}
web.define("crypto", new Crypto());
Math.random = () => native.randomUnit();
