/** E2EE v2 with Node's own cryptography, against `vectors/e2ee-v2.json`: sealed and opened a second time, by other code. */

import assert from "node:assert/strict";
import {
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
} from "node:crypto";
import { test } from "node:test";

import { vector } from "./hashes.js";

interface Suite {
  info: string;
  /** Bytes of an ephemeral public key. */
  ephemeral: number;
  publicKey(secret: Buffer): Buffer;
  agree(secret: Buffer, peer: Buffer): Buffer;
}

const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI = Buffer.from("302a300506032b656e032100", "hex");
const x25519 = (secret: Buffer) =>
  createPrivateKey({ key: Buffer.concat([PKCS8, secret]), format: "der", type: "pkcs8" });
const secp256k1 = (secret: Buffer) => {
  const key = createECDH("secp256k1");
  key.setPrivateKey(secret);
  return key;
};

const suites: Record<string, Suite> = {
  "x25519-aes-256-gcm-hkdf-sha256": {
    info: "aci.e2ee.v2.x25519",
    ephemeral: 32,
    publicKey: (secret) => createPublicKey(x25519(secret)).export({ format: "der", type: "spki" }).subarray(-32),
    agree: (secret, peer) => {
      const publicKey = createPublicKey({ key: Buffer.concat([SPKI, peer]), format: "der", type: "spki" });
      return diffieHellman({ privateKey: x25519(secret), publicKey });
    },
  },
  "secp256k1-aes-256-gcm-hkdf-sha256": {
    info: "aci.e2ee.v2.secp256k1",
    ephemeral: 65,
    publicKey: (secret) => secp256k1(secret).getPublicKey(),
    agree: (secret, peer) => secp256k1(secret).computeSecret(peer),
  },
};

const hex = (text: string) => Buffer.from(text, "hex");

function contentKey(suite: Suite, secret: Buffer, peer: Buffer): Buffer {
  return Buffer.from(hkdfSync("sha256", suite.agree(secret, peer), Buffer.alloc(0), suite.info, 32));
}

function seal(suite: Suite, ephemeral: Buffer, nonce: Buffer, to: Buffer, associated: Buffer, plaintext: Buffer): string {
  const cipher = createCipheriv("aes-256-gcm", contentKey(suite, ephemeral, to), nonce).setAAD(associated);
  const sealed = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return Buffer.concat([suite.publicKey(ephemeral), nonce, sealed]).toString("hex");
}

function open(suite: Suite, secret: Buffer, associated: Buffer, sealed: string): string {
  const bytes = hex(sealed);
  const [peer, nonce] = [bytes.subarray(0, suite.ephemeral), bytes.subarray(suite.ephemeral, suite.ephemeral + 12)];
  const decipher = createDecipheriv("aes-256-gcm", contentKey(suite, secret, peer), nonce);
  decipher.setAAD(associated).setAuthTag(bytes.subarray(-16));
  const plaintext = decipher.update(bytes.subarray(suite.ephemeral + 12, -16));
  return Buffer.concat([plaintext, decipher.final()]).toString("utf8");
}

/** The holder of a place and the place's last name; entries of choices, data and tool calls are found by their `index`. */
function place(body: any, path: string): [any, string] {
  const names = path.split(".");
  let [holder, before] = [body, ""];
  for (const name of names.slice(0, -1)) {
    const byIndex = ["choices", "data", "tool_calls"].includes(before) && Array.isArray(holder);
    holder = (byIndex ? holder.find((entry: any) => entry.index === Number(name)) : undefined) ?? holder[name];
    before = name;
  }
  return [holder, names.at(-1) ?? assert.fail(path)];
}

/** Canonical JSON of an object whose values are strings and small numbers. */
const canonical = (value: Record<string, unknown>): Buffer =>
  Buffer.from(JSON.stringify(Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))));

for (const { algorithm, service, client, fields, exchanges } of vector("e2ee-v2.json").suites) {
  const suite = suites[algorithm] ?? assert.fail(algorithm);

  test(`${algorithm}: each field seals to the same bytes and opens`, () => {
    for (const key of [service, client]) assert.equal(suite.publicKey(hex(key.secret)).toString("hex"), key.public);
    assert.equal(fields.length, 7);
    for (const { recipient, associatedData, ephemeralSecret, aeadNonce, plaintext, sealed } of fields) {
      const key = recipient === "client" ? client : service;
      const associated = Buffer.from(associatedData);
      assert.deepEqual(canonical(JSON.parse(associatedData)), associated);
      const again = seal(suite, hex(ephemeralSecret), hex(aeadNonce), hex(key.public), associated, Buffer.from(plaintext));
      assert.equal(again, sealed);
      assert.equal(open(suite, hex(key.secret), associated, sealed), plaintext);
      assert.throws(() => open(suite, hex(key.secret), Buffer.from(`${associatedData} `), sealed));
    }
  });

  test(`${algorithm}: whole requests and responses open`, () => {
    for (const exchange of exchanges) {
      const { headers } = exchange;
      assert.equal(suite.publicKey(hex(exchange.clientSecret)).toString("hex"), headers["x-client-pub-key"]);
      assert.equal(headers["x-model-pub-key"], service.public);
      const request = JSON.parse(exchange.request);
      const shared = {
        algo: algorithm,
        model: request.model,
        nonce: headers["x-e2ee-nonce"],
        ts: Number(headers["x-e2ee-timestamp"]),
      };
      for (const field of exchange.requestPlaces) {
        const [holder, name] = place(request, field);
        const associated = canonical({ ...shared, field, purpose: "aci.e2ee.request.v2" });
        const text = open(suite, hex(service.secret), associated, holder[name]);
        holder[name] = text.startsWith("[") ? JSON.parse(text) : text;
      }
      const restored = JSON.stringify(request);
      assert.equal(restored, exchange.restored);
      assert.equal(`sha256:${createHash("sha256").update(restored).digest("hex")}`, exchange.receivedHash);
      const response = JSON.parse(exchange.response);
      for (const field of exchange.responsePlaces) {
        const [holder, name] = place(response, field);
        const associated = canonical({ ...shared, field, id: response.id, purpose: "aci.e2ee.response.v2" });
        holder[name] = open(suite, hex(exchange.clientSecret), associated, holder[name]);
      }
      assert.equal(JSON.stringify(response), exchange.opened);
    }
  });
}
