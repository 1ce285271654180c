"use strict";

class Event {
  #type; #cancelable; #prevented = false;
  _target = null; _stopped = false;
  constructor(type, init = {}) { this.#type = String(type); this.#cancelable = Boolean(init?.cancelable); }
  get type() { return this.#type; }
  get target() { return this._target; }
  get currentTarget() { return this._target; }
  get cancelable() { return this.#cancelable; }
  get bubbles() { return false; }
  get defaultPrevented() { return this.#prevented; }
  preventDefault() { if (this.#cancelable) this.#prevented = true; }
  stopPropagation() {}
  stopImmediatePropagation() { this._stopped = true; }
}

class EventTarget {
  #listeners = new Map();
  addEventListener(type, listener, options) {
    if (listener == null) return;
    const list = this.#listeners.get(type) ?? [];
    if (list.some((entry) => entry.listener === listener)) return;
    list.push({ listener, once: Boolean(options?.once) });
    this.#listeners.set(type, list);
  }
  removeEventListener(type, listener) {
    const list = this.#listeners.get(type);
    if (list) this.#listeners.set(type, list.filter((entry) => entry.listener !== listener));
  }
  dispatchEvent(event) {
    event._target = this;
    const handler = this["on" + event.type];
    if (typeof handler === "function") handler.call(this, event);
    for (const entry of [...(this.#listeners.get(event.type) ?? [])]) {
      if (event._stopped) break;
      if (entry.once) this.removeEventListener(event.type, entry.listener);
      if (typeof entry.listener === "function") entry.listener.call(this, event);
      else entry.listener.handleEvent(event);
    }
    return !event.defaultPrevented;
  }
}

const key = Symbol("abort");

class AbortSignal extends EventTarget {
  #aborted = false; #reason = undefined;
  onabort = null;
  constructor(token) {
    super();
    if (token !== key) throw new TypeError("Illegal constructor");
  }
  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }
  static _abort(signal, reason) {
    if (signal.#aborted) return;
    signal.#aborted = true;
    signal.#reason = reason === undefined ? new DOMException("This operation was aborted", "AbortError") : reason;
    signal.dispatchEvent(new Event("abort"));
  }
  static abort(reason) {
    const signal = new AbortSignal(key);
    AbortSignal._abort(signal, reason);
    return signal;
  }
  static timeout(milliseconds) {
    const signal = new AbortSignal(key);
    setTimeout(() => AbortSignal._abort(signal, new DOMException("The operation timed out", "TimeoutError")), milliseconds);
    return signal;
  }
  static any(signals) {
    const result = new AbortSignal(key);
    for (const signal of signals) {
      if (signal.aborted) { AbortSignal._abort(result, signal.reason); break; }
      signal.addEventListener("abort", () => AbortSignal._abort(result, signal.reason), { once: true });
    }
    return result;
  }
}

class AbortController {
  #signal = new AbortSignal(key);
  get signal() { return this.#signal; }
  abort(reason) { AbortSignal._abort(this.#signal, reason); }
}

for (const [name, Class] of Object.entries({ Event, EventTarget, AbortSignal, AbortController })) {
  web.tag(Class, name);
  web.define(name, Class);
}
