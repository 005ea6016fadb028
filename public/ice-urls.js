/** What the pages know of the ICE servers beyond their list: the kinds of the URLs, and why there is no TURN. */

/** @typedef {'stun'|'turn-udp'|'turn-tcp'|'turn-tls'} UrlKind the protocol that a URL selects */
/** @typedef {''|'month-used'|'other-origin'} TurnOff why the server offers no TURN, '' if it does not say */

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
 * Returns why the server offers no TURN: its traffic of the month is used up, or this page
 * belongs to a site that the server does not list.
 * @param {Pick<import('./ice.js').IceServers, 'last'>} ice
 * @returns {TurnOff}
 */
export function turnOff({last}) {
  const turn = last?.turn;
  return turn === 'month-used' || turn === 'other-origin' ? turn : '';
}
