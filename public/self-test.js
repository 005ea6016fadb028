/**
 * The checks of the connection on the self-test page: the browser, the server, a
 * mailbox, its streams, and each STUN and TURN server. This module does not use the DOM. A row is
 * plain data; strings.js has a sentence for each finding.
 */

import {invitation} from './access.js';
import {diagnose, targets} from './diagnosis.js';
import {turnOff} from './ice-urls.js';
import {IceServers} from './ice.js';
import {random} from './room.js';
import {StreamInbox} from './stream-inbox.js';
import {broken} from './transports.js';

/** Milliseconds that the server has to answer, and a message to come back. */
const TIMEOUT = 10_000;
/** Milliseconds after which an answer of the server is slow. */
const SLOW = 2_000;
/** Codes of a TURN server that has no relay left (RFC 8656): quota, capacity. */
const FULL_CODES = [486, 508];

/**
 * @typedef {import('./stream-inbox.js').StreamInbox} Inbox
 * @typedef {import('./ice-urls.js').UrlKind} UrlKind
 * @typedef {import('./diagnosis.js').ProbeResult} ProbeResult
 * @typedef {keyof typeof import('./strings.js').test.findings} Finding
 * @typedef {'websocket'|'stream'} StreamName
 * @typedef {'browser'|'server'|'mailbox'|'camera'|'microphone'|StreamName|UrlKind} Check
 * @typedef {'waiting'|'running'|'ok'|'warning'|'failed'|'skipped'} RowState
 * @typedef {object} Row the result of one check
 * @property {Check} check
 * @property {number} number of the check among those of its kind, from 1
 * @property {RowState} state
 * @property {Finding} finding
 * @property {number} [ms] duration
 * @property {number} [code] of STUN or HTTP
 */

/** The checks that are listed before the server has named its STUN and TURN servers. @type {Check[]} */
const initialChecks = ['browser', 'server', 'mailbox', 'websocket', 'stream', 'stun', 'turn-udp', 'turn-tls'];

/**
 * SelfTest is one run of the checks. It dispatches an event `rows` when its property
 * has changed.
 */
export class SelfTest extends EventTarget {
  /** @type {Row[]} in the order of the list */
  rows = initialChecks.map(check => row(check, 'waiting', 'waiting'));
  /** Whether all checks have ended. */
  done = false;
  #abort = new AbortController();
  #base;

  /** @param {string | URL} base the directory of the pages */
  constructor(base) {
    super();
    this.#base = base;
  }

  /** Ends the run: its connections and requests are closed. */
  cancel() {
    this.#abort.abort();
  }

  /** Runs all checks. Resolves when they have ended. */
  async run() {
    const skip = await this.#runChecks();
    this.rows = this.rows.map(one => (one.state === 'waiting' && skip ? {...one, state: 'skipped', finding: skip} : one));
    this.done = true;
    this.#changed();
  }

  /**
   * Runs the checks until one that the others need has failed.
   * @returns {Promise<Finding | null>} why the other checks are skipped
   */
  async #runChecks() {
    const browser = checkBrowser(globalThis);
    this.#set(browser);
    if (browser.state === 'failed') return 'needsBrowser';
    const server = await this.#measure('server', () => this.#checkServer());
    if (server.state === 'failed') return 'needsServer';
    broken.clear();
    return this.#withInbox([], async (inbox, name) => {
      const {finding} = await this.#measure('mailbox', () => checkMailbox(inbox, name, this.#abort.signal));
      if (finding === 'mailboxPrivate' || finding === 'mailboxExpired') return 'needsInvitation';
      const [skip] = await Promise.all([this.#checkIceServers(inbox), this.#checkStream('websocket'), this.#checkStream('stream')]);
      return skip;
    });
  }

  /** @param {StreamName} transport */
  async #checkStream(transport) {
    const {signal} = this.#abort;
    await this.#withInbox([transport], (inbox, name) => this.#measure(transport, () => checkStream(inbox, name, transport, signal)));
  }

  /**
   * Uses a new mailbox.
   * @template T
   * @param {StreamName[]} transports
   * @param {(inbox: Inbox, name: string) => Promise<T>} use
   */
  async #withInbox(transports, use) {
    const name = `test-${random()}`;
    const inbox = new StreamInbox(new URL('inbox', this.#base), {name, password: random(), transports, invite: invitation()});
    try {
      return await use(inbox, name);
    } finally {
      inbox.release();
    }
  }

  /**
   * The list of ICE servers needs no password, and no other server has it.
   * @returns {Promise<Partial<Row>>}
   */
  async #checkServer() {
    const started = performance.now();
    const abort = new AbortController();
    const stop = () => abort.abort();
    const timer = setTimeout(stop, TIMEOUT);
    this.#abort.signal.addEventListener('abort', stop);
    try {
      const response = await fetch(new URL('ice', this.#base), {cache: 'no-store', credentials: 'omit', redirect: 'manual', signal: abort.signal});
      return await judgeServer(response, performance.now() - started);
    } catch {
      return failed(navigator.onLine === false ? 'serverOffline' : 'serverUnreachable');
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * @param {Inbox} inbox
   * @returns {Promise<Finding | null>}
   */
  async #checkIceServers(inbox) {
    const ice = new IceServers(inbox);
    const servers = await ice.fetch();
    if (!ice.last) return 'needsList';
    const list = targets(servers);
    this.#listServers(list, turnOff(ice));
    const results = await diagnose(list, {signal: this.#abort.signal, onResult: result => this.#set(rowOf(result))});
    for (const one of gradeServers(results)) this.#set(one);
    return null;
  }

  /**
   * Replaces the rows of STUN and TURN by those of the list.
   * @param {{kind: UrlKind, number: number}[]} list
   * @param {import('./ice-urls.js').TurnOff} turnOff
   */
  #listServers(list, turnOff) {
    const fixed = this.rows.filter(({check}) => !isServer(check));
    this.rows = [...fixed, ...serverRows(list, turnOff)];
    this.#changed();
  }

  /**
   * @param {Check} check
   * @param {() => Promise<Partial<Row>>} run
   */
  async #measure(check, run) {
    this.#set(row(check, 'running', 'running'));
    const started = performance.now();
    const found = await run();
    const result = {...row(check, 'failed', 'cancelled'), ms: Math.round(performance.now() - started), ...found};
    this.#set(result);
    return result;
  }

  /** @param {Row} next */
  #set(next) {
    this.rows = this.rows.map(old => (old.check === next.check && old.number === next.number ? next : old));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event('rows'));
  }
}

/**
 * @param {Check} check
 * @param {RowState} state
 * @param {Finding} finding
 * @returns {Row}
 */
export function row(check, state, finding, number = 1) {
  return {check, number, state, finding};
}

/**
 * @param {Finding} finding
 * @returns {Partial<Row>}
 */
function failed(finding, code = 0) {
  return {state: 'failed', finding, code};
}

/**
 * @param {{isSecureContext?: boolean, RTCPeerConnection?: unknown, navigator: {mediaDevices?: unknown}}} scope the global object of the page
 * @returns {Row}
 */
export function checkBrowser(scope) {
  if (!scope.isSecureContext) return row('browser', 'failed', 'browserInsecure');
  if (!scope.RTCPeerConnection) return row('browser', 'failed', 'browserNoCalls');
  return scope.navigator.mediaDevices ? row('browser', 'ok', 'browserOk') : row('browser', 'warning', 'browserNoMedia');
}

/**
 * @param {Response} response to GET /ice
 * @param {number} ms
 * @returns {Promise<Partial<Row>>}
 */
export async function judgeServer(response, ms) {
  if (response.type === 'opaqueredirect') return failed('serverIntercepted');
  if (response.status === 429) return failed('serverLimited', 429);
  if (response.status >= 500) return failed('serverBusy', response.status);
  if (response.status >= 400) return failed('serverRefused', response.status);
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.iceServers)) return failed('serverIntercepted', response.status);
  return ms > SLOW ? {state: 'warning', finding: 'serverSlow'} : {state: 'ok', finding: 'serverOk'};
}

/**
 * Claims a mailbox, and sends a message to it.
 * @param {Inbox} inbox
 * @param {string} name of the mailbox
 * @param {AbortSignal} signal
 * @returns {Promise<Partial<Row>>}
 */
export function checkMailbox(inbox, name, signal) {
  const token = random();
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve(failed('mailboxLost')), TIMEOUT);
    signal.addEventListener('abort', () => resolve(failed('cancelled')));
    inbox.addEventListener('message', event => {
      if (/** @type {CustomEvent} */ (event).detail.data !== token) return;
      clearTimeout(timer);
      resolve({state: 'ok', finding: 'mailboxOk'});
    });
    inbox.addEventListener('error', event => resolve(mailboxError(/** @type {CustomEvent} */ (event).detail)));
    inbox.start();
    inbox.send(name, token, {wait: TIMEOUT / 1000}).catch(() => {}); // an error event has reported it
  });
}

/**
 * Receives a message over a stream. Calls need none, so a failure is a warning.
 * @param {Inbox} inbox that uses this transport
 * @param {string} name of the mailbox
 * @param {StreamName} transport
 * @param {AbortSignal} signal
 * @returns {Promise<Partial<Row>>}
 */
export function checkStream(inbox, name, transport, signal) {
  const token = random();
  let started = 0;
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve({state: 'warning', finding: `${transport}Blocked`}), TIMEOUT);
    signal.addEventListener('abort', () => resolve(failed('cancelled')));
    inbox.addEventListener('transport', () => {
      if (inbox.transport !== transport) return;
      started = performance.now();
      inbox.send(name, token).catch(() => {}); // an error event has reported it
    });
    inbox.addEventListener('message', () => {
      clearTimeout(timer);
      resolve({state: 'ok', finding: `${transport}Ok`, ms: Math.max(1, Math.round(performance.now() - started))});
    });
    inbox.addEventListener('error', event => resolve({...mailboxError(/** @type {CustomEvent} */ (event).detail), state: 'warning'}));
    inbox.start();
  });
}

/**
 * @param {{code: string, status: number}} error
 * @returns {Partial<Row>}
 */
export function mailboxError({code, status}) {
  if (code === 'network') return failed('mailboxUnreachable');
  if (code === 'intercepted') return failed('mailboxIntercepted', status);
  if (code === 'invitation-required') return failed('mailboxPrivate');
  if (code === 'invitation-expired') return failed('mailboxExpired');
  if (status === 429) return failed('mailboxLimited', status);
  return failed(status >= 500 ? 'mailboxBusy' : 'mailboxRefused', status);
}

/** @param {Check} check */
function isServer(check) {
  return check === 'stun' || check.startsWith('turn-');
}

/**
 * Returns the rows of the servers in a list, and those of what the list lacks.
 * @param {{kind: UrlKind, number: number}[]} list
 * @param {import('./ice-urls.js').TurnOff} turnOff
 * @returns {Row[]}
 */
export function serverRows(list, turnOff) {
  const has = (/** @type {UrlKind} */ kind) => list.some(one => one.kind === kind);
  const turn = list.some(({kind}) => kind !== 'stun');
  const rows = /** @type {UrlKind[]} */ (['stun', 'turn-udp', 'turn-tcp', 'turn-tls']).flatMap(kind => {
    if (has(kind)) return list.filter(one => one.kind === kind).map(({number}) => row(kind, 'running', 'running', number));
    return kind === 'turn-tcp' ? [] : [missingRow(kind, turn, turnOff)]; // TURN over TLS replaces it
  });
  return rows;
}

/**
 * @param {UrlKind} kind
 * @param {boolean} turn whether the list has another TURN server
 * @param {import('./ice-urls.js').TurnOff} turnOff
 */
function missingRow(kind, turn, turnOff) {
  if (kind === 'stun') return row(kind, 'warning', 'stunMissing');
  if (turnOff) return row(kind, turn ? 'warning' : 'failed', turnOff === 'month-used' ? 'turnMonthUsed' : 'turnOtherOrigin');
  if (kind === 'turn-tls' && turn) return row(kind, 'warning', 'tlsMissing');
  return row(kind, turn ? 'warning' : 'failed', 'turnMissing');
}

/**
 * @param {ProbeResult} result
 * @returns {Row}
 */
export function rowOf(result) {
  const {kind, number, ok, ms, errorCode} = result;
  return {check: kind, number, state: ok ? 'ok' : 'failed', finding: findingOf(result), ms, code: ok ? 0 : errorCode};
}

/**
 * @param {ProbeResult} result
 * @returns {Finding}
 */
function findingOf({kind, problem, errorCode}) {
  if (problem === 'cancelled') return 'cancelled';
  const stun = kind === 'stun';
  switch (problem) {
    case '': return stun ? 'stunOk' : 'turnOk';
    case 'blocked': return stun ? 'stunBlocked' : 'turnBlocked';
    case 'rejected': return stun ? 'stunRejected' : 'turnRejected';
    case 'refused': return stun ? 'stunRefused' : FULL_CODES.includes(errorCode) ? 'turnFull' : 'turnRefused';
    case 'no-path': return 'turnNoPath';
    default: return stun ? 'stunUnreachable' : 'turnUnreachable';
  }
}

/**
 * Returns the rows of all results: if one relay works, calls connect, so that the
 * failure of the others is a warning.
 * @param {ProbeResult[]} results
 * @returns {Row[]}
 */
export function gradeServers(results) {
  const relayed = results.some(({kind, ok}) => ok && kind !== 'stun');
  return results.map(rowOf).map(one => {
    if (one.state !== 'failed') return one;
    const udp = one.finding === 'turnUnreachable' && one.check === 'turn-udp' && relayed;
    const state = relayed || one.check === 'stun' ? 'warning' : 'failed';
    return {...one, state, finding: udp ? 'udpUnreachable' : one.finding};
  });
}

/**
 * Returns the worst state of some rows, or running.
 * @param {Row[]} rows
 * @returns {'running'|'ok'|'warning'|'failed'}
 */
export function overall(rows) {
  const has = (/** @type {RowState} */ state) => rows.some(one => one.state === state);
  if (has('waiting') || has('running')) return 'running';
  if (has('failed')) return 'failed';
  return has('warning') || has('skipped') ? 'warning' : 'ok';
}
