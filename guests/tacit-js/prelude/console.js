"use strict";

const quote = (text) => (text.includes("'") ? JSON.stringify(text) : `'${text}'`);

// What `console.log` prints for a value: bounded in depth, in entries and in length.
const show = (value, depth, seen) => {
  switch (typeof value) {
    case "string": return depth === 0 ? value : quote(value.length > 10000 ? value.slice(0, 10000) + "…" : value);
    case "bigint": return `${value}n`;
    case "symbol": return value.toString();
    case "function": return value.name ? `[Function: ${value.name}]` : "[Function (anonymous)]";
    case "object": break;
    default: return Object.is(value, -0) ? "-0" : String(value);
  }
  if (value === null) return "null";
  if (value instanceof Error) {
    const stack = value.stack ? "\n" + String(value.stack).trimEnd() : "";
    return `${value.name}: ${value.message}${stack}`;
  }
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (value instanceof Promise) return "Promise {}";
  if (seen.includes(value)) return "[Circular]";
  const inner = [...seen, value];
  const name = value.constructor?.name;
  if (depth > 3) return Array.isArray(value) ? "[Array]" : `[${name ?? "Object"}]`;
  const list = (entries, total) => (total > entries.length ? [...entries, `… ${total - entries.length} more`] : entries);
  const wrap = (prefix, open, entries, close) => {
    if (entries.length === 0) return `${prefix}${open}${close}`;
    const line = `${prefix}${open} ${entries.join(", ")} ${close}`;
    return line.length <= 100 && !line.includes("\n") ? line : `${prefix}${open}\n${entries.map((entry) => "  " + entry.replaceAll("\n", "\n  ")).join(",\n")}\n${close}`;
  };
  if (Array.isArray(value)) return wrap("", "[", list(value.slice(0, 100).map((entry) => show(entry, depth + 1, inner)), value.length), "]");
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return wrap(`${name}(${value.length}) `, "[", list([...value.slice(0, 100)].map(String), value.length), "]");
  }
  if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
  if (value instanceof Map) return wrap(`Map(${value.size}) `, "{", list([...value].slice(0, 100).map(([k, v]) => `${show(k, depth + 1, inner)} => ${show(v, depth + 1, inner)}`), value.size), "}");
  if (value instanceof Set) return wrap(`Set(${value.size}) `, "{", list([...value].slice(0, 100).map((v) => show(v, depth + 1, inner)), value.size), "}");
  const keys = Object.keys(value);
  const entries = keys.slice(0, 100).map((key) => `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : quote(key)}: ${show(value[key], depth + 1, inner)}`);
  const prefix = name && name !== "Object" ? `${name} ` : Object.getPrototypeOf(value) === null ? "[Object: null prototype] " : "";
  return wrap(prefix, "{", list(entries, keys.length), "}");
};

const format = (values) => {
  const [first, ...rest] = values;
  if (typeof first !== "string" || !first.includes("%")) return values.map((value) => show(value, 0, [])).join(" ");
  const text = first.replace(/%([sdifjoOc%])/g, (whole, kind) => {
    if (kind === "%") return "%";
    if (rest.length === 0) return whole;
    const value = rest.shift();
    switch (kind) {
      case "s": return typeof value === "object" ? show(value, 1, []) : String(value);
      case "d": case "f": return String(Number(value));
      case "i": return String(Math.trunc(Number(value)));
      case "j": return JSON.stringify(value);
      case "c": return "";
      default: return show(value, 1, []);
    }
  });
  return [text, ...rest.map((value) => show(value, 0, []))].join(" ");
};

const counts = new Map();
const started = new Map();
let indent = "";
const write = (level) => (...values) => native.log(level, indent + format(values).replaceAll("\n", "\n" + indent));
const info = write(1);

web.define("console", {
  debug: write(0), log: info, info, warn: write(2), error: write(3), dir: (value) => info(value),
  trace: (...values) => native.log(0, `Trace: ${format(values)}\n${new Error().stack}`),
  assert: (condition, ...values) => { if (!condition) native.log(3, values.length ? `Assertion failed: ${format(values)}` : "Assertion failed"); },
  table: info,
  count: (label = "default") => { counts.set(label, (counts.get(label) ?? 0) + 1); info(`${label}: ${counts.get(label)}`); },
  countReset: (label = "default") => { counts.delete(label); },
  time: (label = "default") => { started.set(label, performance.now()); },
  timeLog: (label = "default", ...values) => { info(`${label}: ${performance.now() - started.get(label)}ms`, ...values); },
  timeEnd: (label = "default") => { info(`${label}: ${performance.now() - started.get(label)}ms`); started.delete(label); },
  group: (...values) => { if (values.length) info(...values); indent += "  "; },
  groupEnd: () => { indent = indent.slice(2); },
});
