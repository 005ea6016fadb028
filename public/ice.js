/**
 * Fetches the STUN and TURN servers that the inbox server recommends.
 */

/** Milliseconds to wait for the list. After that, the call starts without it. */
const TIMEOUT = 5_000;

/**
 * Returns the ICE servers, or an empty list if the request fails.
 * @param {string | URL} url the /ice endpoint
 * @param {string} authorization the Authorization value; the server requires it for lists with credentials
 * @returns {Promise<RTCIceServer[]>}
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
