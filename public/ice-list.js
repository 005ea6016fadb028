/** Fetches the list of STUN and TURN servers that an inbox server recommends. */

/** Milliseconds to wait for the list. */
const TIMEOUT = 5_000;

/**
 * Returns a new list: TURN credentials are valid for some minutes. Rejects if the request fails.
 * @param {Pick<import('./inbox.js').Inbox, 'url' | 'open'>} inbox whose server has the endpoint
 *   /ice. The server offers TURN to the owner of a mailbox only
 * @returns {Promise<any>} {iceServers, turn}, or a problem document
 */
export async function requestIce(inbox) {
  const response = await inbox.open(new URL('ice', inbox.url), {signal: AbortSignal.timeout(TIMEOUT)});
  return response.json();
}
