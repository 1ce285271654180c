// What the module "tacit" gives a function. The web's own interfaces (fetch, crypto, URL, timers) are globals.

declare module "tacit" {
  /** JSON, or bytes that stay bytes. */
  export type Value = unknown;

  export interface StateAccess {
    get(key: string): Promise<Value | undefined>;
    /** Keys have 1 to 256 bytes, values at most 1 MiB. Refused in a query with the code `state-read-only`. */
    set(key: string, value: Value): Promise<void>;
    delete(key: string): Promise<void>;
    /** Entries in the order of their keys, at most 1000 at once. */
    list(prefix?: string, after?: string | null, limit?: number): Promise<{ key: string; value: Value }[]>;
    /** Keeps or drops all writes of `body` together. */
    transaction<T>(body: (transaction: StateAccess) => T | Promise<T>): Promise<T>;
  }
  export const state: StateAccess;

  /** An output that is addressed to a contract. */
  export interface Publication {
    /** Name of the chain, as in the manifest. */
    chain: string;
    /** The contract: 0x and 40 hex digits. The manifest must name it in [[publish]]. */
    contract: string;
    /** 1 to 64 bytes. */
    topic: string;
    /** At most 8 KiB, as bytes or as 0x-hex. */
    data: ArrayBuffer | ArrayBufferView | `0x${string}`;
  }
  export const chain: {
    /**
     * Publishes to a contract and gives the publication's sequence, which rises by one for each contract and topic. At most 16
     * a call; dropped if the call fails; refused in a query with the code `state-read-only`.
     */
    publish(publication: Publication): Promise<number>;
  };

  export const secrets: {
    /** A secret that the manifest names; undefined until the owner has set it. */
    get(name: string): string | undefined;
  };

  /** A request in the form of the OpenAI interface, without `stream`; `model` is one that the manifest allows. */
  export interface ModelRequest {
    model: string;
    [parameter: string]: unknown;
  }

  /** An answer in that form, and its ACI receipt, which `tacit verify` reads. */
  export interface ModelAnswer {
    model: string;
    receipt: object | null;
    [member: string]: any;
  }

  export interface Tensor {
    data: Float32Array | Float64Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;
    /** Length of each axis; one axis as long as the data without it. */
    shape?: number[];
    /** What the array's class says, but for booleans, which are a Uint8Array of 0 and 1. */
    type?: "float32" | "float64" | "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" | "boolean";
  }

  type ModelOptions = { signal?: AbortSignal };

  /**
   * Models that run on the function's own worker, inside the same protected machine. Each answer is an effect of the call, which
   * names the model's digest. A request that the model refuses throws a `ModelError` with the interface's `code` and `status`.
   */
  export const model: {
    chat(request: ModelRequest & { messages: object[] }, options?: ModelOptions): Promise<ModelAnswer>;
    complete(request: ModelRequest & { prompt: string | string[] }, options?: ModelOptions): Promise<ModelAnswer>;
    embed(request: ModelRequest & { input: string | string[] }, options?: ModelOptions): Promise<ModelAnswer>;
    /** Runs an ONNX model; also in a deterministic method. */
    run(name: string, inputs: Record<string, Tensor>): Promise<Record<string, Required<Tensor>>>;
  };

  export const request: {
    readonly caller: string | null;
    readonly callId: string;
    readonly method: string;
    /** Milliseconds since 1970. */
    readonly deadline: number;
    /** What fired the call, where nobody called. */
    readonly trigger: string | null;
    readonly version: number;
  };

  type Line = (message: string, fields?: object) => void;
  /** Lines that only the owner can read. */
  export const log: { debug: Line; info: Line; warn: Line; error: Line };

  /** What a refused power throws. */
  export interface TacitError extends Error {
    name: "TacitError";
    code: "state-read-only" | "denied" | "invalid" | "unavailable";
  }
}
