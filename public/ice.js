/**
 * Fetches the STUN and TURN servers that the inbox server recommends, and
 * configures connections with those that the browser accepts.
 */

import {requestIce} from './ice-list.js';

/** Maximum number of URLs per connection. A browser contacts each of them. */
const MAX_URLS = 32;
/** Maximum number of characters of a URL in the console. */
const MAX_SHOWN = 100;

/** IceServers fetches the list of ICE servers of an inbox server. */
export class IceServers {
  /** The last response of the server, null before. @type {{iceServers: RTCIceServer[], turn?: unknown} | null} */
  last = null;
  #inbox;

  /** @param {Pick<import('./inbox.js').Inbox, 'url' | 'open'>} inbox whose server has the list */
  constructor(inbox) {
    this.#inbox = inbox;
  }

  /** The last list that the server returned, empty before. */
  get servers() {
    return this.last?.iceServers ?? [];
  }

  /**
   * Returns a new list: TURN credentials are valid for some minutes. If the
   * request fails, it returns the last list, which is empty at first; the
   * console says why.
   * @returns {Promise<RTCIceServer[]>}
   */
  async fetch() {
    try {
      const list = await requestIce(this.#inbox);
      if (!Array.isArray(list.iceServers)) throw new Error(list.title);
      this.last = list;
    } catch (error) {
      console.info(`No new list of ICE servers: ${error}`);
    }
    return this.servers;
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
  const tries = (/** @type {RTCIceServer[]} */ next) => {
    try {
      apply(next);
      return true;
    } catch {
      return false;
    }
  };
  const list = splitUrls(servers);
  if (list.length <= MAX_URLS && tries(servers)) return [];
  apply([]); // throws if no server is the cause
  /** @type {RTCIceServer[]} */
  const accepted = [];
  const rejected = list.filter((server, i) => {
    if (i >= MAX_URLS || !tries([...accepted, server])) return true;
    accepted.push(server);
  }).map(({urls}) => String(urls).slice(0, MAX_SHOWN)); // without credentials
  console.warn(`Invalid or excess ICE servers: ${rejected.slice(0, MAX_URLS).join(', ')}`);
  return rejected;
}

/**
 * Returns a server for each URL of a list that can contain anything.
 * @param {any} servers
 * @returns {RTCIceServer[]}
 */
export function splitUrls(servers) {
  return [servers].flat().flatMap(server => [server?.urls].flat().map(urls => ({...server, urls})));
}
