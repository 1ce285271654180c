/** The verifier itself: `tacit-verify`, compiled to WebAssembly. Nothing is checked here. */

/** A file under test and what it is judged by. */
export interface Question {
  /** A receipt bundle, a worker's certificate, a keyset report, an AI transcript, or raw evidence, exactly as in its file. */
  readonly file: Uint8Array;
  /** Files with collateral for raw evidence. */
  readonly collateral?: readonly Uint8Array[];
  /** The `deployment.json` that is trusted; it never comes from whoever gave the file. */
  readonly deployment?: unknown;
  /** `standard` without. */
  readonly policy?: "dev" | "standard" | "high" | object;
  /** The nonce that the asker chose, `0x` and 64 digits, where evidence was made for one. */
  readonly nonce?: `0x${string}`;
  /** When it is judged, unix seconds; `now` without. */
  readonly at?: number;
  /** The present, unix seconds. */
  readonly now: number;
}

export interface Step {
  readonly step: string;
  readonly ok: boolean;
  readonly proves: string;
  readonly doesNotProve: string;
  readonly error: string | null;
}

/** What `tacit verify --json` prints. */
export interface Report {
  readonly verdict: "verified" | "simulated" | "refused" | "incomplete";
  readonly time: "live" | "countersigned" | "unproven" | null;
  readonly root: string | null;
  readonly couldTalkTo: string | null;
  /** What was looked at; what it says stands here once it holds. */
  readonly subject?: { readonly kind: string } & Readonly<Record<string, unknown>>;
  readonly steps: readonly Step[];
}

interface Exports {
  readonly memory: WebAssembly.Memory;
  tacit_reserve(length: number): number;
  tacit_release(address: number, length: number): void;
  tacit_verify(address: number, length: number): bigint;
}

export interface Verifier {
  /** Judges one file. */
  verify(question: Question): Report;
  /** The same, as the text that the verifier wrote. */
  verifyText(question: Question): string;
}

/** Compiles the module `tacit-verifier.wasm`, given as its bytes or as the response of a `fetch`. It imports nothing. */
export async function loadVerifier(module: BufferSource | Response | Promise<Response>): Promise<Verifier> {
  const source = await module;
  const bytes = source instanceof Response ? await source.arrayBuffer() : source;
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return verifierOf(instance.exports as unknown as Exports);
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

function verifierOf(exports: Exports): Verifier {
  const verifyText = (question: Question): string => {
    const asked = new TextEncoder().encode(JSON.stringify(question, (_, value) => (value instanceof Uint8Array ? base64(value) : value)));
    const address = exports.tacit_reserve(asked.length);
    if (address === 0) throw new RangeError(`a question of ${asked.length} bytes is too long`);
    try {
      // The memory may have grown and moved: it is looked at anew after each call.
      new Uint8Array(exports.memory.buffer, address, asked.length).set(asked);
      const answer = exports.tacit_verify(address, asked.length);
      const [where, length] = [Number(answer >> 32n), Number(answer & 0xffff_ffffn)];
      const text = new TextDecoder().decode(new Uint8Array(exports.memory.buffer, where, length));
      exports.tacit_release(where, length);
      return text;
    } finally {
      exports.tacit_release(address, asked.length);
    }
  };
  return { verifyText, verify: (question) => JSON.parse(verifyText(question)) as Report };
}
