/**
 * Fetches the STUN and TURN servers that the inbox server recommends, and
 * configures connections with those that the browser accepts.
 */

/** Milliseconds to wait for the list. After that, the last one is used. */
const TIMEOUT = 5_000;
/** Maximum number of URLs per connection. A browser contacts each of them. */
const MAX_URLS = 32;
/** Maximum number of characters of a URL in the console. */
const MAX_SHOWN = 100;

/** @typedef {'stun'|'turn-udp'|'turn-tcp'|'turn-tls'} UrlKind the protocol that a URL selects */
/** @typedef {''|'month-used'|'other-origin'} TurnOff why the server offers no TURN, '' if it does not say */

/** IceServers fetches the list of ICE servers of an inbox server. */
export class IceServers {
  #url;
  #authorization;
  #fetch;
  /** @type {RTCIceServer[]} the last list that the server returned */
  #servers = [];
  /** @type {TurnOff} */
  #turn = '';
  #known = false;

  /** The invitation or guest pass for a private server, '' for none. */
  invite;

  /**
   * @param {string | URL} url the /ice endpoint
   * @param {string} authorization the Authorization value of a mailbox; without it, the server offers no TURN
   * @param {string} [invite]
   * @param {typeof globalThis.fetch} [customFetch] by default that of the platform
   */
  constructor(url, authorization, invite = '', customFetch) {
    this.invite = invite;
    this.#url = url;
    this.#authorization = authorization;
    this.#fetch = (/** @type {Parameters<typeof fetch>} */ ...request) => (customFetch ?? fetch)(...request);
  }

  /**
   * Why the server offers no TURN: its traffic of the month is used up, or this page
   * belongs to a site that the server does not list.
   */
  get turn() {
    return this.#turn;
  }

  /** The last list that the server returned. */
  get servers() {
    return this.#servers;
  }

  /** Whether the server has returned a list. */
  get known() {
    return this.#known;
  }

  /**
   * Returns a new list: TURN credentials are valid for some minutes. If the
   * request fails, it returns the last list, which is empty at first; the
   * console says why.
   * @returns {Promise<RTCIceServer[]>}
   */
  async fetch() {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT);
    try {
      const headers = {Authorization: this.#authorization, ...this.invite && {'Inbox-Invite': this.invite}};
      const options = /** @type {const} */ ({cache: 'no-store', credentials: 'omit', redirect: 'error'});
      const response = await this.#fetch(this.#url, {headers, ...options, signal: abort.signal});
      if (!response.ok) throw new Error(`status ${response.status}`);
      const {iceServers, turn} = await response.json();
      if (!Array.isArray(iceServers)) throw new Error('the response has no list iceServers');
      this.#servers = iceServers;
      this.#turn = turn === 'month-used' || turn === 'other-origin' ? turn : '';
      this.#known = true;
    } catch (error) {
      console.info(`No new list of STUN and TURN servers, continuing with ${this.#servers.length}: ${error}`);
    } finally {
      clearTimeout(timer);
    }
    return this.#servers;
  }
}

/**
 * Creates a connection with the servers that the browser accepts. Throws if the
 * browser creates no connection without servers either.
 * @param {(servers: RTCIceServer[]) => RTCPeerConnection} connect
 * @param {RTCIceServer[]} servers
 * @returns {{connection: RTCPeerConnection, rejected: string[]}} the URLs that were left out
 */
export function connectWith(connect, servers) {
  /** @type {RTCPeerConnection | undefined} */
  let connection;
  const rejected = applyAccepted(list => {
    const next = connect(list);
    connection?.close();
    connection = next;
  }, servers);
  return {connection: /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (connection)), rejected};
}

/**
 * Applies a list of servers. A browser rejects the whole list if it finds one
 * server invalid, so these servers are left out, with a warning in the console.
 * URLs beyond the 32nd are left out as well.
 * @param {(servers: RTCIceServer[]) => void} apply throws if the browser rejects the list
 * @param {RTCIceServer[]} servers
 * @returns {string[]} the URLs that were left out
 */
export function applyAccepted(apply, servers) {
  const list = splitUrls(servers);
  if (Array.isArray(servers) && list.length <= MAX_URLS) {
    try {
      apply(servers);
      return [];
    } catch {
      // one of the servers is invalid
    }
  }
  apply([]);
  /** @type {RTCIceServer[]} */
  const accepted = [];
  const rejected = list.slice(MAX_URLS).map(urlOf);
  for (const server of list.slice(0, MAX_URLS)) {
    try {
      apply([...accepted, server]);
      accepted.push(server);
    } catch {
      rejected.push(urlOf(server));
    }
  }
  console.warn(`Calling without invalid or excess STUN and TURN servers: ${rejected.slice(0, MAX_URLS).join(', ')}`);
  return rejected;
}

/**
 * Returns a server for each URL of a list that can contain anything.
 * @param {unknown} servers
 * @returns {RTCIceServer[]}
 */
export function splitUrls(servers) {
  return (Array.isArray(servers) ? servers : [servers]).flatMap(server => {
    const urls = [server?.urls].flat();
    return urls.length > 0 ? urls.map(urls => ({...server, urls})) : [{...server}];
  });
}

/**
 * Returns the kind of a URL (RFC 7064, RFC 7065), or null for anything else.
 * @param {unknown} url
 * @returns {UrlKind | null}
 */
export function urlKind(url) {
  const [, scheme, tcp] = /^(stun|turns?):[^?]*(\?transport=tcp)?/i.exec(String(url)) ?? [];
  switch (scheme?.toLowerCase()) {
    case 'stun': return 'stun';
    case 'turn': return tcp ? 'turn-tcp' : 'turn-udp';
    case 'turns': return 'turn-tls';
    default: return null;
  }
}

/**
 * Returns the URL of a server for the console, without its credentials.
 * @param {RTCIceServer} server
 */
function urlOf({urls}) {
  return typeof urls === 'string' ? urls.slice(0, MAX_SHOWN) : 'an entry without a URL';
}
