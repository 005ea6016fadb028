/**
 * Collects what one side of a call knows of its paths: the kinds of candidates of
 * both sides, and the errors of the ICE servers. It keeps no address.
 */

import {urlKind} from './ice-urls.js';

/** Maximum number of errors that are kept. A browser reports one per network and URL. */
const MAX_ERRORS = 32;

/**
 * @typedef {import('./ice-urls.js').UrlKind} UrlKind
 * @typedef {'host'|'srflx'|'prflx'|'relay'} CandidateType as in RFC 8839
 * @typedef {{kind: UrlKind, code: number}} ServerError an error of a STUN or TURN server; 701 is no answer
 */

/** Evidence belongs to one call. All candidates are those over UDP: browsers rarely connect over TCP. */
export class Evidence {
  /** When the call began, in milliseconds as from Date.now(). */
  startedAt = Date.now();
  /** @type {Set<CandidateType>} the candidates of this side */
  local = new Set();
  /** @type {Set<CandidateType>} the candidates that the remote peer has sent */
  remote = new Set();
  /** @type {ServerError[]} */
  errors = [];

  /**
   * Collects the candidates and errors of a connection, and returns it.
   * @param {RTCPeerConnection} connection
   */
  watch(connection) {
    connection.addEventListener('icecandidate', ({candidate}) => candidate && this.addLocal(candidate.candidate));
    connection.addEventListener('icecandidateerror', event => this.addError(event));
    return connection;
  }

  /** @param {string} candidate */
  addLocal(candidate) {
    addType(this.local, candidate);
  }

  /** @param {import('./peer.js').Signal} signal of the remote peer */
  addSignal({description, candidates = []}) {
    for (const line of String(description?.sdp ?? '').match(/^a=candidate:.*$/gm) ?? []) addType(this.remote, line);
    for (const {candidate} of candidates) addType(this.remote, String(candidate));
  }

  /** @param {{url?: string | null, errorCode: number}} event an icecandidateerror */
  addError({url, errorCode}) {
    const kind = urlKind(url);
    if (!kind || this.errors.length >= MAX_ERRORS || this.errors.some(error => error.kind === kind && error.code === errorCode)) return;
    this.errors.push({kind, code: errorCode});
  }
}

/**
 * @param {Set<CandidateType>} types
 * @param {string} candidate
 */
function addType(types, candidate) {
  const [, type] = /^(?:a=)?candidate:\S+ \d+ udp \d+ \S+ \d+ typ (host|srflx|prflx|relay)\b/i.exec(candidate) ?? [];
  if (type) types.add(/** @type {CandidateType} */ (type.toLowerCase()));
}
