/**
 * Fetches the STUN and TURN servers that the inbox server recommends, and creates
 * connections with those that the browser accepts.
 */

/** Milliseconds to wait for the list. After that, the call starts without it. */
const TIMEOUT = 5_000;
/** Maximum number of URLs per connection. A browser contacts each of them. */
const MAX_URLS = 32;
/** Maximum number of characters of a URL in the console. */
const MAX_SHOWN = 100;

/**
 * Returns the ICE servers, or an empty list if the request fails. The console says why.
 * @param {string | URL} url the /ice endpoint
 * @param {string} authorization the Authorization value; without it the server leaves out TURN servers
 * @returns {Promise<RTCIceServer[]>}
 */
export async function iceServers(url, authorization) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TIMEOUT);
  try {
    const headers = {Authorization: authorization};
    const options = /** @type {const} */ ({cache: 'no-store', credentials: 'omit', redirect: 'error'});
    const response = await fetch(url, {headers, ...options, signal: abort.signal});
    if (!response.ok) throw new Error(`status ${response.status}`);
    const {iceServers} = await response.json();
    if (!Array.isArray(iceServers)) throw new Error('the response has no list iceServers');
    return iceServers;
  } catch (error) {
    console.info(`No STUN and TURN servers: ${error}`);
    return [];
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Creates a connection. A browser rejects the whole list if it finds one server
 * invalid, so these servers are left out, with a warning in the console. URLs
 * beyond the 32nd are left out as well. Throws if the browser creates no
 * connection without servers either.
 * @param {(configuration: RTCConfiguration) => RTCPeerConnection} connect
 * @param {RTCIceServer[]} servers
 * @returns {{connection: RTCPeerConnection, rejected: string[]}} the URLs that were left out
 */
export function connectWith(connect, servers) {
  const list = splitUrls(servers);
  if (Array.isArray(servers) && list.length <= MAX_URLS) {
    try {
      return {connection: connect({iceServers: servers}), rejected: []};
    } catch {
      // one of the servers is invalid
    }
  }
  let connection = connect({iceServers: []});
  /** @type {RTCIceServer[]} */
  const accepted = [];
  const rejected = list.slice(MAX_URLS).map(urlOf);
  for (const server of list.slice(0, MAX_URLS)) {
    try {
      const next = connect({iceServers: [...accepted, server]});
      connection.close();
      connection = next;
      accepted.push(server);
    } catch {
      rejected.push(urlOf(server));
    }
  }
  console.warn(`Calling without invalid or excess STUN and TURN servers: ${rejected.slice(0, MAX_URLS).join(', ')}`);
  return {connection, rejected};
}

/**
 * Returns a server for each URL of a list that can hold anything.
 * @param {unknown} servers
 * @returns {RTCIceServer[]}
 */
function splitUrls(servers) {
  return (Array.isArray(servers) ? servers : [servers]).flatMap(server => {
    const urls = [server?.urls].flat();
    return urls.length > 0 ? urls.map(urls => ({...server, urls})) : [{...server}];
  });
}

/**
 * Returns the URL of a server for the console, without its credentials.
 * @param {RTCIceServer} server
 */
function urlOf({urls}) {
  return typeof urls === 'string' ? urls.slice(0, MAX_SHOWN) : 'an entry without a URL';
}
