"use strict";

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const forbidden = new Set(["connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "accept-encoding"]);

class Headers {
  #entries = [];
  #guard = null;
  constructor(init) {
    if (init === undefined || init === null) return;
    if (init instanceof Headers) this.#entries = init.#entries.map(([name, value]) => [name, value]);
    else if (typeof init[Symbol.iterator] === "function") {
      for (const pair of init) {
        const [name, value, ...rest] = pair;
        if (value === undefined || rest.length > 0) throw new TypeError("Headers: each pair must have two elements");
        this.append(name, value);
      }
    } else for (const name of Object.keys(init)) this.append(name, init[name]);
  }
  #name(name) {
    const text = String(name);
    if (!token.test(text)) throw new TypeError(`Headers: "${text}" is not a header name`);
    return text.toLowerCase();
  }
  #value(value) {
    const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
    if (/[\0\r\n]/.test(text) || /[^\x00-\xff]/.test(text)) throw new TypeError("Headers: a value holds a character that is not allowed");
    return text;
  }
  append(name, value) { this.#entries.push([this.#name(name), this.#value(value)]); }
  set(name, value) {
    const [key, text] = [this.#name(name), this.#value(value)];
    this.#entries = this.#entries.filter(([n]) => n !== key);
    this.#entries.push([key, text]);
  }
  delete(name) { const key = this.#name(name); this.#entries = this.#entries.filter(([n]) => n !== key); }
  has(name) { const key = this.#name(name); return this.#entries.some(([n]) => n === key); }
  get(name) {
    const key = this.#name(name);
    const values = this.#entries.filter(([n]) => n === key).map(([, v]) => v);
    return values.length ? values.join(", ") : null;
  }
  getSetCookie() { return this.#entries.filter(([n]) => n === "set-cookie").map(([, v]) => v); }
  *entries() {
    const names = [...new Set(this.#entries.map(([n]) => n))].sort();
    for (const name of names) {
      if (name === "set-cookie") for (const value of this.getSetCookie()) yield [name, value];
      else yield [name, this.get(name)];
    }
  }
  *keys() { for (const [name] of this.entries()) yield name; }
  *values() { for (const [, value] of this.entries()) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  forEach(callback, self) { for (const [name, value] of this.entries()) callback.call(self, value, name, this); }
}

// A body is held whole: null or bytes, and the content type that it brings.
const extract = (body) => {
  if (body === undefined || body === null) return [null, null];
  if (typeof body === "string") return [web.utf8(body), "text/plain;charset=UTF-8"];
  if (body instanceof URLSearchParams) return [web.utf8(body.toString()), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (web.isBytes(body)) return [web.bytesOf(body).slice(), null];
  return [web.utf8(String(body)), "text/plain;charset=UTF-8"];
};

class Body {
  #bytes = null; #used = false;
  static _set(self, bytes) { self.#bytes = bytes; }
  static _peek(self) { return self.#bytes; }
  static _take(self) {
    if (self.#used) throw new TypeError("the body was already read");
    if (self.#bytes !== null) self.#used = true;
    return self.#bytes ?? new Uint8Array(0);
  }
  get bodyUsed() { return this.#used; }
  async bytes() { return Body._take(this).slice(); }
  async arrayBuffer() { return Body._take(this).slice().buffer; }
  async text() { return web.fromUtf8(Body._take(this)); }
  async json() { return JSON.parse(web.fromUtf8(Body._take(this))); }
}

const methods = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]);

class Request extends Body {
  #method; #url; #headers; #signal; #redirect;
  constructor(input, init = {}) {
    super();
    web.required("Request", arguments.length, 1);
    const from = input instanceof Request ? input : null;
    this.#url = from ? from.url : new URL(input).href;
    const method = String(init.method ?? from?.method ?? "GET");
    this.#method = methods.has(method.toUpperCase()) ? method.toUpperCase() : method;
    if (!token.test(this.#method) || ["CONNECT", "TRACE", "TRACK"].includes(this.#method.toUpperCase())) throw new TypeError(`Request: the method "${method}" is not allowed`);
    this.#headers = new Headers(init.headers ?? from?.headers);
    this.#signal = init.signal ?? from?.signal ?? null;
    this.#redirect = String(init.redirect ?? from?.redirect ?? "follow");
    if (!["follow", "error", "manual"].includes(this.#redirect)) throw new TypeError(`Request: redirect "${this.#redirect}" is not known`);
    const [bytes, type] = init.body !== undefined && init.body !== null ? extract(init.body) : [from ? Body._peek(from) : null, null];
    if (bytes !== null && ["GET", "HEAD"].includes(this.#method)) throw new TypeError(`Request: ${this.#method} takes no body`);
    if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
    Body._set(this, bytes);
  }
  get method() { return this.#method; }
  get url() { return this.#url; }
  get headers() { return this.#headers; }
  get signal() { return this.#signal; }
  get redirect() { return this.#redirect; }
  clone() {
    if (this.bodyUsed) throw new TypeError("the body was already read");
    return new Request(this);
  }
}

const internal = Symbol("response");

class Response extends Body {
  #status; #statusText; #headers; #url = ""; #redirected = false; #type = "default";
  constructor(body = null, init = {}, token) {
    super();
    const status = init.status === undefined ? 200 : Number(init.status);
    if (token !== internal && !(status >= 200 && status <= 599)) throw new RangeError(`Response: the status ${status} is out of range`);
    this.#status = status;
    this.#statusText = String(init.statusText ?? "");
    this.#headers = new Headers(init.headers);
    if (token === internal) { Body._set(this, body); this.#url = init.url; this.#redirected = init.redirected; this.#type = "basic"; return; }
    const [bytes, type] = extract(body);
    if (bytes !== null && [204, 205, 304].includes(status)) throw new TypeError(`Response: a ${status} has no body`);
    if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
    Body._set(this, bytes);
  }
  static json(value, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(JSON.stringify(value), { ...init, headers });
  }
  static error() { return new Response(null, { status: 0, url: "", redirected: false }, internal); }
  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`Response.redirect: ${status} is not a redirect`);
    return new Response(null, { status, headers: { location: new URL(url).href }, url: "", redirected: false }, internal);
  }
  get status() { return this.#status; }
  get statusText() { return this.#statusText; }
  get ok() { return this.#status >= 200 && this.#status <= 299; }
  get headers() { return this.#headers; }
  get url() { return this.#url; }
  get redirected() { return this.#redirected; }
  get type() { return this.#type; }
  clone() {
    if (this.bodyUsed) throw new TypeError("the body was already read");
    return new Response(Body._peek(this), { status: this.#status, statusText: this.#statusText, headers: this.#headers, url: this.#url, redirected: this.#redirected }, internal);
  }
}

const fetch = (input, init) => new Promise((resolve, reject) => {
  const request = new Request(input, init);
  const signal = request.signal;
  if (signal?.aborted) return reject(signal.reason);
  const headers = [];
  for (const [name, value] of request.headers) if (!forbidden.has(name)) headers.push(name, value);
  const id = native.startFetch(request.method, request.url, headers, Body._peek(request), request.redirect);
  web.exchange(id, signal, reject, ([status, flat, body, url, redirected]) => {
    const list = [];
    for (let i = 0; i < flat.length; i += 2) list.push([flat[i], flat[i + 1]]);
    resolve(new Response(body, { status, headers: list, url, redirected }, internal));
  });
});

for (const [name, Class] of Object.entries({ Headers, Request, Response })) {
  web.tag(Class, name);
  web.define(name, Class);
}
web.define("fetch", fetch);
