"use strict";

class URLSearchParams {
  #entries = []; #url = null;
  constructor(init = "") {
    if (init instanceof URLSearchParams) this.#entries = [...init];
    else if (typeof init === "object" && init !== null) {
      if (typeof init[Symbol.iterator] === "function") {
        for (const pair of init) {
          const [name, value, ...rest] = pair;
          if (value === undefined || rest.length > 0) throw new TypeError("URLSearchParams: each pair must have two elements");
          this.#entries.push([String(name), String(value)]);
        }
      } else for (const name of Object.keys(init)) this.#entries.push([name, String(init[name])]);
    } else this.#parse(String(init));
  }
  #parse(text) {
    const flat = native.formParse(web.utf8(text.startsWith("?") ? text.slice(1) : text));
    this.#entries = [];
    for (let i = 0; i < flat.length; i += 2) this.#entries.push([flat[i], flat[i + 1]]);
  }
  static _attach(params, url) { params.#url = url; }
  static _reparse(params, text) { params.#parse(text); }
  #changed() { this.#url?._setSearch(this.toString()); }
  append(name, value) { this.#entries.push([String(name), String(value)]); this.#changed(); }
  delete(name, value) {
    this.#entries = this.#entries.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value)));
    this.#changed();
  }
  get(name) { return this.#entries.find(([n]) => n === String(name))?.[1] ?? null; }
  getAll(name) { return this.#entries.filter(([n]) => n === String(name)).map(([, v]) => v); }
  has(name, value) { return this.#entries.some(([n, v]) => n === String(name) && (value === undefined || v === String(value))); }
  set(name, value) {
    const at = this.#entries.findIndex(([n]) => n === String(name));
    if (at < 0) this.#entries.push([String(name), String(value)]);
    else {
      this.#entries[at] = [String(name), String(value)];
      this.#entries = this.#entries.filter(([n], i) => i <= at || n !== String(name));
    }
    this.#changed();
  }
  sort() { this.#entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)); this.#changed(); }
  forEach(callback, self) { for (const [name, value] of this.#entries) callback.call(self, value, name, this); }
  *entries() { for (const [name, value] of this.#entries) yield [name, value]; }
  *keys() { for (const [name] of this.#entries) yield name; }
  *values() { for (const [, value] of this.#entries) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  get size() { return this.#entries.length; }
  toString() { return native.formSerialize(this.#entries.flat().map((text) => text.toWellFormed())); }
}

const parts = ["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

class URL {
  #href; #params = null;
  constructor(url, base) {
    web.required("URL", arguments.length, 1);
    const href = native.urlParse(String(url).toWellFormed(), base === undefined ? null : String(base).toWellFormed());
    if (href === null) {
      const error = new TypeError(`Invalid URL: ${url}`);
      error.code = "ERR_INVALID_URL";
      throw error;
    }
    this.#href = href;
  }
  static canParse(url, base) { return native.urlParse(String(url).toWellFormed(), base === undefined ? null : String(base).toWellFormed()) !== null; }
  static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
  static _get(url, part) { return native.urlGet(url.#href, part); }
  static _set(url, part, value) {
    url.#href = native.urlSet(url.#href, part, String(value).toWellFormed());
    if (part === "search" && url.#params) URLSearchParams._reparse(url.#params, native.urlGet(url.#href, "search"));
  }
  get href() { return this.#href; }
  set href(value) {
    this.#href = new URL(value).href;
    if (this.#params) URLSearchParams._reparse(this.#params, native.urlGet(this.#href, "search"));
  }
  get origin() { return native.urlGet(this.#href, "origin"); }
  get searchParams() {
    if (!this.#params) {
      this.#params = new URLSearchParams(native.urlGet(this.#href, "search"));
      URLSearchParams._attach(this.#params, this);
    }
    return this.#params;
  }
  _setSearch(text) { this.#href = native.urlSet(this.#href, "search", text); }
  toString() { return this.#href; }
  toJSON() { return this.#href; }
}
for (const part of parts) {
  Object.defineProperty(URL.prototype, part, {
    get() { return URL._get(this, part); },
    set(value) { URL._set(this, part, value); },
    enumerable: true, configurable: true,
  });
}

for (const [name, Class] of Object.entries({ URL, URLSearchParams })) {
  web.tag(Class, name);
  web.define(name, Class);
}
