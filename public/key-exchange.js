/**
 * The key exchange behind a short code. Two devices that share no secret agree on
 * a key, and people compare four digits to detect an attacker between the devices:
 *
 * 1. The joiner sends a commitment: the hash of its public key.
 * 2. The owner sends its public key.
 * 3. The joiner reveals its public key. The owner compares it with the commitment.
 *
 * An attacker in the middle must choose each of its keys before it knows the digits
 * of that side, so the digits of both sides are equal with a probability of 1 in
 * 10,000. When the attacker sees that they differ, it can stop before the reveal, and
 * the owner's screen shows nothing. The caller must therefore not repeat an exchange
 * that ended early without asking its user. Each exchange needs a new
 * {@link KeyExchange}.
 */

import {base64url, fromBase64url} from './room.js';
import {Sealer} from './seal.js';

const LABEL = 'inbox pairing v1';
const CURVE = {name: 'ECDH', namedCurve: 'P-256'};
const SHARED_BITS = 256;
const POINT_BYTES = 65;
/** The first byte of an uncompressed point (SEC 1). Some browsers accept other forms too. */
const UNCOMPRESSED = 4;
const DIGITS = 4;
/** Maximum number of characters of a link. */
const MAX_LINK_LENGTH = 2048;

const utf8 = new TextEncoder();

/**
 * @typedef {{owner: string, joiner: string}} Mailboxes the names of the mailboxes of both sides
 * @typedef {{digits: string, sealLink: (link: string) => Promise<import('./seal.js').Envelope>, openLink: (envelope: unknown) => Promise<string>}} Agreement
 *   digits are equal on both sides if no one is between them. sealLink throws if the
 *   link is not valid, openLink if the owner did not seal it.
 */

/**
 * PairingError is a violation of the exchange by the other side. `code` is one of:
 * - invalid-key: not a public key of the curve P-256
 * - wrong-commitment: the revealed key does not belong to the commitment
 * - invalid-link: not a link of http or https with at most 2048 characters
 */
export class PairingError extends Error {
  /**
   * @param {'invalid-key'|'wrong-commitment'|'invalid-link'} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = 'PairingError';
    this.code = code;
  }
}

/** KeyExchange is one side of one exchange. */
export class KeyExchange {
  #privateKey;
  #publicKey;
  #mailboxes;

  /**
   * @param {CryptoKey} privateKey
   * @param {string} publicKey
   * @param {Mailboxes} mailboxes
   * @private
   */
  constructor(privateKey, publicKey, mailboxes) {
    this.#privateKey = privateKey;
    this.#publicKey = publicKey;
    this.#mailboxes = mailboxes;
  }

  /**
   * Creates a key pair. The private key cannot be exported.
   * @param {Mailboxes} mailboxes
   */
  static async create(mailboxes) {
    const {privateKey, publicKey} = await crypto.subtle.generateKey(CURVE, false, ['deriveBits']);
    const raw = await crypto.subtle.exportKey('raw', publicKey);
    return new KeyExchange(privateKey, base64url(new Uint8Array(raw)), mailboxes);
  }

  /** The public key: the uncompressed point as base64url. */
  get publicKey() {
    return this.#publicKey;
  }

  /** The commitment of the joiner to its public key, as base64url. */
  get commitment() {
    return this.#commitmentTo(this.#publicKey);
  }

  /**
   * Completes the exchange of the owner. Throws a PairingError.
   * @param {string} commitment
   * @param {unknown} joinerKey the revealed key
   * @returns {Promise<Agreement>}
   */
  async acceptReveal(commitment, joinerKey) {
    const publicKey = await importPublicKey(joinerKey);
    if (await this.#commitmentTo(String(joinerKey)) !== commitment) {
      throw new PairingError('wrong-commitment', 'the key does not belong to the commitment');
    }
    return this.#agree(publicKey, [this.#publicKey, String(joinerKey)]);
  }

  /**
   * Completes the exchange of the joiner. Throws a PairingError.
   * @param {unknown} ownerKey
   * @returns {Promise<Agreement>}
   */
  async acceptKey(ownerKey) {
    return this.#agree(await importPublicKey(ownerKey), [String(ownerKey), this.#publicKey]);
  }

  /** @param {string} publicKey */
  async #commitmentTo(publicKey) {
    const {owner, joiner} = this.#mailboxes;
    const text = JSON.stringify([`${LABEL} commitment`, owner, joiner, publicKey]);
    return base64url(new Uint8Array(await crypto.subtle.digest('SHA-256', utf8.encode(text))));
  }

  /**
   * @param {CryptoKey} publicKey of the other side
   * @param {[string, string]} publicKeys of the owner and of the joiner
   * @returns {Promise<Agreement>}
   */
  async #agree(publicKey, publicKeys) {
    const {owner, joiner} = this.#mailboxes;
    const shared = await crypto.subtle.deriveBits({name: CURVE.name, public: publicKey}, this.#privateKey, SHARED_BITS);
    const transcript = JSON.stringify([LABEL, owner, joiner, ...publicKeys]);
    const sealer = await Sealer.create(base64url(new Uint8Array(shared)), transcript, 'link');
    const context = {from: owner, to: joiner, call: 'pairing', direction: 'owner'};
    return {
      digits: await digitsOf(shared, transcript),
      sealLink: async link => sealer.seal(checkLink(link), context),
      openLink: async envelope => checkLink(await sealer.open(envelope, context)),
    };
  }
}

/**
 * Imports a public key. The browser checks that the point is on the curve.
 * @param {unknown} publicKey base64url
 */
async function importPublicKey(publicKey) {
  const raw = fromBase64url(publicKey);
  if (raw?.length !== POINT_BYTES || raw[0] !== UNCOMPRESSED) throw new PairingError('invalid-key', 'the public key is not an uncompressed point');
  return crypto.subtle.importKey('raw', raw, CURVE, false, []).catch(cause => {
    throw new PairingError('invalid-key', 'the public key is not a point of the curve', {cause});
  });
}

/**
 * Derives the digits that people compare, with HKDF-SHA-256. The remainder of 64
 * bits favours no digits noticeably.
 * @param {ArrayBuffer} shared
 * @param {string} transcript
 */
async function digitsOf(shared, transcript) {
  const material = await crypto.subtle.importKey('raw', shared, 'HKDF', false, ['deriveBits']);
  const hkdf = {name: 'HKDF', hash: 'SHA-256', salt: utf8.encode(transcript), info: utf8.encode(`${LABEL} digits`)};
  const bits = new DataView(await crypto.subtle.deriveBits(hkdf, material, 64));
  return String(bits.getBigUint64(0) % BigInt(10 ** DIGITS)).padStart(DIGITS, '0');
}

/**
 * Returns a link that a page can open: no script, for example.
 * @param {unknown} link
 */
function checkLink(link) {
  if (typeof link === 'string' && link.length <= MAX_LINK_LENGTH && /^https?:$/.test(protocolOf(link))) return link;
  throw new PairingError('invalid-link', 'the link is not valid');
}

/** @param {string} link */
function protocolOf(link) {
  try {
    return new URL(link).protocol;
  } catch {
    return '';
  }
}
