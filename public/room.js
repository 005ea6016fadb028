/**
 * A room is where one camera meets one screen: an identifier and a secret, 128
 * random bits each, in the part of the link that browsers send to nobody.
 */

/** @typedef {'send'|'receive'} Role */
/** @typedef {{name: string, password: string}} Credentials */

const FRAGMENT = /^#([\w-]{22})\.([\w-]{22})$/;

export class Room {
  /**
   * @param {string} id
   * @param {string} secret
   */
  constructor(id, secret) {
    this.id = id;
    this.secret = secret;
  }

  /**
   * The room of a link's fragment; a new one when there is no fragment, null
   * when it is damaged.
   * @param {string} fragment
   */
  static from(fragment) {
    if (fragment === '' || fragment === '#') return new Room(random(), random());
    const parts = FRAGMENT.exec(fragment);
    return parts && new Room(parts[1], parts[2]);
  }

  get fragment() {
    return `#${this.id}.${this.secret}`;
  }

  /**
   * The link of one side, beside the page we are on.
   * @param {Role} role
   * @param {string | URL} page
   */
  link(role, page) {
    const link = new URL(`${role}.html`, page);
    link.hash = this.fragment;
    return link.href;
  }

  /** @param {Role} role */
  name(role) {
    return `${this.id}-${role}`;
  }

  /**
   * Each side's password differs, so that the server cannot open one mailbox
   * with what it saw of the other, and neither shows the secret.
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

/** 128 random bits as 22 characters. */
export function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(16)));
}

/** @param {Uint8Array} bytes */
function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
