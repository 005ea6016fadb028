/**
 * A room connects two pages: a camera and a screen, or the two sides of a two-way
 * call. It consists of an identifier and a secret of 128 random bits each. Both are
 * in the fragment of the link, which browsers do not send to servers. The link of a room on a
 * private server can have a guest pass, too.
 */

/** @typedef {'a'|'b'} Slot the two sides of a two-way call, which have the same link */
/** @typedef {'send'|'receive'|Slot} Role */
/** @typedef {'send'|'receive'|'call'} PageName */
/** @typedef {{name: string, password: string}} Credentials */

/** The secret is last: its last character is a letter, which no program cuts off the end of a link. */
const FRAGMENT = /^#([\w-]{22})(?:\.(guest_[\w-]*))?\.([\w-]{22})$/;
const PASS = /^guest_[\w-]{1,154}$/;

export class Room {
  /**
   * @param {string} id
   * @param {string} secret
   * @param {unknown} [pass] a guest pass for a private server; anything else counts as none
   */
  constructor(id, secret, pass = '') {
    this.id = id;
    this.secret = secret;
    this.pass = typeof pass === 'string' && PASS.test(pass) ? pass : '';
  }

  /**
   * Returns the room of a link's fragment, a new room if the fragment is empty,
   * or null if the fragment is invalid.
   * @param {string} fragment
   */
  static from(fragment) {
    if (fragment === '' || fragment === '#') return new Room(random(), random());
    const parts = FRAGMENT.exec(fragment);
    return parts && new Room(parts[1], parts[3], parts[2]);
  }

  get fragment() {
    return `#${this.id}.${this.pass && `${this.pass}.`}${this.secret}`;
  }

  /**
   * Returns the link that opens a page in this room, in the directory of another page.
   * @param {PageName} name
   * @param {string | URL} page
   */
  link(name, page) {
    const link = new URL(`${name}.html`, page);
    link.hash = this.fragment;
    return link.href;
  }

  /**
   * Returns the mailbox name of one side.
   * @param {Role} role
   */
  name(role) {
    return `${this.id}-${role}`;
  }

  /**
   * Derives the mailbox credentials of one side from the secret. Each side has
   * its own password, so the server cannot derive one from the other, and
   * neither reveals the secret.
   * @param {Role} role
   * @returns {Promise<Credentials>}
   */
  async credentials(role) {
    const utf8 = new TextEncoder();
    const hmac = {name: 'HMAC', hash: 'SHA-256'};
    const key = await crypto.subtle.importKey('raw', utf8.encode(this.secret), hmac, false, ['sign']);
    const password = await crypto.subtle.sign('HMAC', key, utf8.encode(`inbox password of ${this.name(role)}`));
    return {name: this.name(role), password: base64url(new Uint8Array(password))};
  }
}

/**
 * Returns the other side of a role.
 * @param {Role} role
 * @returns {Role}
 */
export function otherRole(role) {
  const others = /** @type {const} */ ({send: 'receive', receive: 'send', a: 'b', b: 'a'});
  return others[role];
}

/** Returns 128 random bits as 22 characters of base64url. */
export function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * Encodes bytes as base64url without padding (RFC 4648).
 * @param {Uint8Array} bytes
 */
export function base64url(bytes) {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/**
 * Decodes base64url without padding. Returns null for anything else, also for a
 * second spelling of the same bytes.
 * @param {unknown} text
 */
export function fromBase64url(text) {
  if (typeof text !== 'string' || !/^[\w-]*$/.test(text) || text.length % 4 === 1) return null;
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  const bytes = Uint8Array.from(binary, character => character.charCodeAt(0));
  return base64url(bytes) === text ? bytes : null;
}

/**
 * Returns a URL, or null if a text is none. Safari before 17 has no URL.parse.
 * @param {string} text
 */
export function parseURL(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}
