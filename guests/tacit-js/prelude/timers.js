"use strict";

// Exchanges and timers that somebody may wait for. `pump` is called by the engine when no job is left.
const exchanges = new Map();
const timers = new Map();
let nextTimer = 1;
let startedAt = 0;

// What a function awaits of an exchange: `answered` takes its answer; its error or the signal, which gives it up, rejects.
web.exchange = (id, signal, reject, answered) => {
  const abort = () => {
    if (!exchanges.delete(id)) return;
    native.cancel(id);
    reject(signal.reason);
  };
  signal?.addEventListener("abort", abort, { once: true });
  exchanges.set(id, (error, answer) => {
    signal?.removeEventListener("abort", abort);
    if (error !== null) return reject(error);
    answered(answer);
  });
};
web.start = () => { startedAt = native.now(); };

const schedule = (repeat) => (callback, delay = 0, ...rest) => {
  if (typeof callback !== "function") throw new TypeError("the callback of a timer must be a function");
  const id = nextTimer++;
  const milliseconds = Math.min(Math.max(Number(delay) || 0, repeat ? 1 : 0), 2 ** 31 - 1);
  timers.set(id, { due: native.now() + milliseconds * 1000, callback, rest, every: repeat ? milliseconds * 1000 : null });
  return id;
};
const clear = (id) => { timers.delete(Number(id)); };

web.define("setTimeout", Object.defineProperty(schedule(false), "name", { value: "setTimeout" }));
web.define("setInterval", Object.defineProperty(schedule(true), "name", { value: "setInterval" }));
web.define("clearTimeout", clear);
web.define("clearInterval", clear);
web.define("performance", { now: () => (native.now() - startedAt) / 1000, get timeOrigin() { return startedAt / 1000; } });

const earliest = () => {
  let first = null;
  for (const [id, timer] of timers) if (first === null || timer.due < first[1].due) first = [id, timer];
  return first;
};

// Waits for one thing and delivers it. False: nothing is left that could still happen.
web.pump = () => {
  const first = earliest();
  if (exchanges.size === 0 && first === null) return false;
  const done = native.wait([...exchanges.keys()], first === null ? -1 : first[1].due);
  if (done !== null) {
    const exchange = exchanges.get(done[0]);
    exchanges.delete(done[0]);
    exchange(done[1], done[2]);
    return true;
  }
  const [id, timer] = first;
  if (timer.every === null) timers.delete(id);
  else timer.due = Math.max(timer.due + timer.every, native.now());
  timer.callback(...timer.rest);
  return true;
};
