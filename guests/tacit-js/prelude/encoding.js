"use strict";

class TextEncoder {
  get encoding() { return "utf-8"; }
  encode(text = "") { return web.utf8(text); }
  encodeInto(text, target) {
    let read = 0, written = 0;
    for (const character of String(text).toWellFormed()) {
      const bytes = web.utf8(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
}

const labels = new Map([
  ["utf-8", "utf-8"], ["utf8", "utf-8"], ["unicode-1-1-utf-8", "utf-8"],
  ["utf-16le", "utf-16le"], ["utf-16", "utf-16le"], ["ucs-2", "utf-16le"],
]);

class TextDecoder {
  #encoding; #fatal; #ignoreBOM; #pending = new Uint8Array(0); #started = false;
  constructor(label = "utf-8", options = {}) {
    const encoding = labels.get(String(label).trim().toLowerCase());
    if (!encoding) throw new RangeError(`TextDecoder: the encoding "${label}" is not supported`);
    this.#encoding = encoding;
    this.#fatal = Boolean(options?.fatal);
    this.#ignoreBOM = Boolean(options?.ignoreBOM);
  }
  get encoding() { return this.#encoding; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#ignoreBOM; }
  decode(input = new Uint8Array(0), options = {}) {
    let bytes = web.bytesOf(input);
    if (this.#pending.length > 0) {
      const joined = new Uint8Array(this.#pending.length + bytes.length);
      joined.set(this.#pending);
      joined.set(bytes, this.#pending.length);
      bytes = joined;
    }
    const stream = Boolean(options?.stream);
    const tail = !stream ? 0 : this.#encoding === "utf-8" ? native.utf8Tail(bytes) : bytes.length % 2;
    this.#pending = bytes.slice(bytes.length - tail);
    const whole = bytes.subarray(0, bytes.length - tail);
    // A byte order mark counts only at the very beginning.
    const keepMark = this.#ignoreBOM || this.#started;
    if (whole.length > 0) this.#started = true;
    if (!stream) { this.#started = false; this.#pending = new Uint8Array(0); }
    return this.#encoding === "utf-8"
      ? native.utf8Decode(whole, this.#fatal, keepMark)
      : native.utf16Decode(whole, this.#fatal, keepMark);
  }
}

for (const [name, Class] of Object.entries({ TextEncoder, TextDecoder })) {
  web.tag(Class, name);
  web.define(name, Class);
}
