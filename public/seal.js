/**
 * Encrypts the signals of a call end to end: offers, answers and candidates. The
 * key is derived from the secret of the room, which no server receives. A server,
 * a store or a proxy between the two sides can then neither read nor replace the
 * fingerprints of the media keys.
 *
 *     const sealer = await Sealer.create(room.secret, room.id);
 *     const envelope = await sealer.seal(signal, {from, to, call, direction});
 *     const signal = await sealer.open(envelope, {from, to, call, direction});
 *
 * An envelope opens only in the context that it was sealed for. It can still be
 * delivered twice: the receiver must drop a signal whose number `n` is not higher
 * than that of the previous signal of the call, as peer.js does. The number is
 * inside the envelope, so it cannot be changed.
 *
 * signalSealer() returns the option `sealer` of an Inbox for the messages of
 * session.js. key-exchange.js uses a Sealer for another purpose, with other keys.
 */

import {base64url, fromBase64url} from './room.js';

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_ID_BYTES = 8;
/** Maximum size of a signal as JSON, in bytes. A description has about 10 KiB. */
const MAX_SIGNAL_BYTES = 64 * 1024;
/** The number of base64url characters of the largest ciphertext. */
const MAX_BOX_LENGTH = Math.ceil((MAX_SIGNAL_BYTES + TAG_BYTES) * 4 / 3);
/** Maximum number of characters of each part of a context. */
const MAX_PART_LENGTH = 256;

const utf8 = new TextEncoder();

/**
 * @typedef {{from: string, to: string, call: string, direction: string}} Context
 *   from and to are the ids of the pages, direction is the role of the sender. An
 *   id that is new with each load keeps old envelopes from a later load.
 * @typedef {{v: number, key: string, nonce: string, box: string}} Envelope
 *   key identifies the key, box is the ciphertext with its tag; all are base64url.
 * @typedef {{inbox: {name: string}, remote: string, role: string, isConnected: boolean}} CallSide
 * @typedef {'not-sealed'|'wrong-version'|'wrong-key'|'wrong-context'|'malformed'|'too-large'} SealErrorCode
 */

/**
 * SealError says why a signal cannot be sealed or opened. `code` is one of:
 * - not-sealed: the signal is not encrypted
 * - wrong-version: the other side uses a newer format
 * - wrong-key: the envelope was sealed with another secret
 * - wrong-context: the envelope belongs to another sender, recipient, call or
 *   direction, or it was altered
 * - malformed: a field is missing or has the wrong type or length
 * - too-large: the signal exceeds 64 KiB
 */
export class SealError extends Error {
  /**
   * @param {SealErrorCode} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = 'SealError';
    this.code = code;
  }
}

/** Sealer encrypts and decrypts signals with the key of one room. */
export class Sealer {
  #key;
  #keyId;
  #label;

  /**
   * @param {CryptoKey} key for AES-GCM
   * @param {string} keyId
   * @param {string} label
   * @private
   */
  constructor(key, keyId, label) {
    this.#key = key;
    this.#keyId = keyId;
    this.#label = label;
  }

  /**
   * Derives the key with HKDF-SHA-256 (RFC 5869). Both sides must pass the same
   * values.
   * @param {string} secret at least 128 random bits, as text
   * @param {string} salt public and equal on both sides, such as the id of the room
   * @param {string} [purpose] separates the keys of one secret
   */
  static async create(secret, salt, purpose = 'signal') {
    const label = `inbox ${purpose} v${VERSION}`;
    const material = await crypto.subtle.importKey('raw', utf8.encode(secret), 'HKDF', false, ['deriveKey', 'deriveBits']);
    const hkdf = (/** @type {string} */ part) =>
      ({name: 'HKDF', hash: 'SHA-256', salt: utf8.encode(salt), info: utf8.encode(`${label} ${part}`)});
    const key = await crypto.subtle.deriveKey(hkdf('key'), material, {name: 'AES-GCM', length: 256}, false, ['encrypt', 'decrypt']);
    const keyId = await crypto.subtle.deriveBits(hkdf('key id'), material, KEY_ID_BYTES * 8);
    return new Sealer(key, base64url(new Uint8Array(keyId)), label);
  }

  /**
   * Encrypts a signal. Throws a SealError with the code too-large or malformed.
   * @param {unknown} signal a value that JSON can represent
   * @param {Context} context
   * @returns {Promise<Envelope>}
   */
  async seal(signal, context) {
    const additionalData = encodeContext(this.#label, context);
    const plain = utf8.encode(JSON.stringify(signal));
    if (plain.length > MAX_SIGNAL_BYTES) throw new SealError('too-large', `the signal has ${plain.length} bytes, more than ${MAX_SIGNAL_BYTES}`);
    const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
    const box = await crypto.subtle.encrypt({name: 'AES-GCM', iv, additionalData}, this.#key, plain);
    return {v: VERSION, key: this.#keyId, nonce: base64url(iv), box: base64url(new Uint8Array(box))};
  }

  /**
   * Decrypts a signal. Throws a SealError.
   * @param {unknown} envelope any value that arrived
   * @param {Context} context
   * @returns {Promise<any>} the signal
   */
  async open(envelope, context) {
    const additionalData = encodeContext(this.#label, context);
    const {key, iv, box} = parseEnvelope(envelope);
    if (key !== this.#keyId) throw new SealError('wrong-key', 'the signal was sealed with another secret');
    const plain = await crypto.subtle.decrypt({name: 'AES-GCM', iv, additionalData}, this.#key, box).catch(cause => {
      throw new SealError('wrong-context', 'the signal belongs to another context, or it was altered', {cause});
    });
    return JSON.parse(new TextDecoder().decode(plain));
  }

  /**
   * Encrypts a message of a call of connect.js.
   * @param {{call: string}} message
   * @param {CallSide} side that sends it
   * @returns {Promise<{call: string, sealed: Envelope}>}
   * @internal
   */
  async sealCall(message, {inbox, remote, role}) {
    const {call} = message;
    return {call, sealed: await this.seal(message, {from: inbox.name, to: remote, call, direction: role})};
  }

  /**
   * Decrypts a message of a call. One that refuses the call is not encrypted if the other side has another key.
   * @param {any} data any value that arrived
   * @param {CallSide} side that receives it
   * @param {string} sender the role of the other side
   * @returns {Promise<any>}
   * @internal
   */
  async openCall(data, {inbox, remote, isConnected}, sender) {
    if (!data.sealed && data.bye && !isConnected) return data;
    return this.open(data.sealed, {from: remote, to: inbox.name, call: data.call, direction: sender});
  }
}

/**
 * Encodes a context as additional data. JSON keeps its parts apart.
 * @param {string} label
 * @param {Context} context
 */
function encodeContext(label, {from, to, call, direction}) {
  const parts = [from, to, call, direction];
  for (const part of parts) {
    if (typeof part !== 'string' || part === '' || part.length > MAX_PART_LENGTH) {
      throw new SealError('malformed', 'a part of the context is missing or invalid');
    }
  }
  return utf8.encode(JSON.stringify([label, ...parts]));
}

/** @param {unknown} envelope */
function parseEnvelope(envelope) {
  const {v, key, nonce, box} = /** @type {Partial<Envelope>} */ (envelope ?? {});
  if (typeof v !== 'number') throw new SealError('not-sealed', 'the signal is not encrypted');
  if (v !== VERSION) throw new SealError('wrong-version', `the version of the envelope is not ${VERSION}`);
  if (typeof box === 'string' && box.length > MAX_BOX_LENGTH) throw new SealError('too-large', 'the envelope is too large');
  const iv = fromBase64url(nonce);
  const bytes = fromBase64url(box);
  const valid = fromBase64url(key)?.length === KEY_ID_BYTES && iv?.length === NONCE_BYTES && bytes && bytes.length >= TAG_BYTES;
  if (!valid) throw new SealError('malformed', 'a field of the envelope is missing or invalid');
  return {key, iv, box: bytes};
}

/**
 * Returns the option `sealer` of an Inbox for the messages of session.js. It
 * seals the signals that are sent, and opens those that are received. A received
 * signal that is not sealed is refused. Other messages carry no keys and pass
 * unchanged. A sealed signal is `{call, sealed: Envelope}`.
 * @param {Sealer} sealer
 * @param {{local: string, remote: string}} roles the directions of both sides, which must differ
 * @returns {import('./stream-inbox.js').MessageSealer}
 */
export function signalSealer(sealer, {local, remote}) {
  return {
    async seal(message) {
      if (!isSignal(message)) return message;
      const {page: from, to, signal} = message;
      const {call} = signal;
      return {...message, signal: {call, sealed: await sealer.seal(signal, {from, to, call, direction: local})}};
    },
    async open(message) {
      if (!isSignal(message)) return message;
      const {page: from, to} = message;
      const {call, sealed} = message.signal ?? {};
      const signal = await sealer.open(sealed, {from, to, call, direction: remote});
      if (signal?.call !== call) throw new SealError('malformed', 'the signal names another call than its envelope');
      return {...message, signal};
    },
  };
}

/**
 * @param {any} message
 * @returns {message is {kind: 'signal', page: string, to: string, signal: {call: string, sealed?: unknown}}}
 */
function isSignal(message) {
  return message?.kind === 'signal';
}
