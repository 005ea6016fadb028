/**
 * Which STUN and TURN servers this inbox server recommends.
 */

/** Milliseconds; a call goes on without servers rather than late. */
const TIMEOUT = 5_000;

/**
 * @param {string | URL} url the server's /ice
 * @param {string} authorization servers with credentials are told to known users only
 * @returns {Promise<RTCIceServer[]>} none when they cannot be had
 */
export async function iceServers(url, authorization) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TIMEOUT);
  try {
    const headers = {Authorization: authorization};
    const response = await fetch(url, {headers, cache: 'no-store', credentials: 'omit', signal: abort.signal});
    const {iceServers} = await response.json();
    return response.ok && Array.isArray(iceServers) ? iceServers : [];
  } catch {
    return [];
  } finally {
    clearTimeout(timer);
  }
}
