/**
 * Probes the STUN and TURN servers of a list, one probe per URL: whether STUN
 * answers, and whether a call of the page to itself passes through the relay. A probe
 * ends in a bounded time and closes its connections, so that its allocations end.
 */

import {urlKind} from './ice-urls.js';
import {splitUrls} from './ice.js';

/** Milliseconds that a probe can take. */
const TIMEOUT = 10_000;
/** Maximum number of probes at the same time. One of TURN has two connections. */
const MAX_PROBES = 3;
/** Maximum number of URLs that are probed. */
const MAX_URLS = 12;
/** Minimum milliseconds between two automatic runs. */
const INTERVAL = 60_000;

/**
 * @typedef {import('./ice-urls.js').UrlKind} UrlKind
 * @typedef {'rejected'|'blocked'|'unreachable'|'refused'|'no-path'|'cancelled'} Problem
 *   the browser rejects the URL; the browser uses no UDP; the server does not answer; it
 *   refuses the request; it opens a relay that passes no data; the run was cancelled
 * @typedef {object} ProbeResult
 * @property {UrlKind} kind
 * @property {number} number of the URL among those of its kind, from 1
 * @property {boolean} ok
 * @property {boolean} answered whether the server answered, also if the probe failed
 * @property {number} ms duration
 * @property {Problem | ''} problem '' if ok
 * @property {number} errorCode the last one of an icecandidateerror, 0 for none
 * @typedef {{kind: UrlKind, number: number, server: RTCIceServer}} Target
 * @typedef {(configuration: RTCConfiguration) => RTCPeerConnection} Connect
 * @typedef {object} ProbeOptions
 * @property {number} [timeout] milliseconds
 * @property {AbortSignal} [signal] cancels the probes
 * @property {Connect} [connect] for tests
 */

/**
 * Returns what is to be probed in a list of servers, in its order. Entries that are
 * no STUN or TURN servers are left out.
 * @param {unknown} servers
 * @returns {Target[]}
 */
export function targets(servers) {
  /** @type {Map<UrlKind, number>} */
  const counts = new Map();
  return splitUrls(servers).slice(0, MAX_URLS).flatMap(server => {
    const kind = urlKind(server.urls);
    if (!kind) return [];
    const number = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, number);
    return [{kind, number, server}];
  });
}

/**
 * Probes targets, three at a time. Resolves when all have ended, and never rejects.
 * @param {Target[]} list
 * @param {ProbeOptions & {onResult?: (result: ProbeResult) => void}} [options]
 * @returns {Promise<ProbeResult[]>} in the order of the list
 */
export async function diagnose(list, {onResult, ...options} = {}) {
  /** @type {ProbeResult[]} */
  const results = [];
  const waiting = [...list.entries()];
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      results[next[0]] = await probe(next[1], options);
      onResult?.(results[next[0]]);
    }
  };
  await Promise.all(Array.from({length: MAX_PROBES}, work));
  return results;
}

/** Diagnosis runs probes at most once a minute, for callers that are not a person. */
export class Diagnosis {
  running = false;
  /** @type {Map<string, ProbeResult>} the last result of each target */
  #results = new Map();
  #lastRun = -Infinity;
  #diagnose;

  /** @param {typeof diagnose} [run] for tests */
  constructor(run = diagnose) {
    this.#diagnose = run;
  }

  /** The last result of each target. Those of a run replace those of the last one as they come. */
  get results() {
    return [...this.#results.values()];
  }

  /**
   * Starts a run, unless one began less than a minute ago.
   * @param {unknown} servers
   * @param {ProbeOptions} [options]
   */
  async run(servers, options) {
    if (Date.now() - this.#lastRun < INTERVAL) return;
    this.#lastRun = Date.now();
    this.running = true;
    const list = targets(servers);
    const kept = new Set(list.map(keyOf));
    for (const key of this.#results.keys()) if (!kept.has(key)) this.#results.delete(key);
    await this.#diagnose(list, {...options, onResult: result => this.#results.set(keyOf(result), result)});
    this.running = false;
  }
}

/** @param {{kind: UrlKind, number: number}} target */
function keyOf({kind, number}) {
  return `${kind} ${number}`;
}

/**
 * Probes one URL. Never rejects.
 * @param {Target} target
 * @param {ProbeOptions} options
 * @returns {Promise<ProbeResult>}
 */
async function probe({kind, number, server}, {timeout = TIMEOUT, signal, connect = newConnection}) {
  const started = performance.now();
  const attempt = new Attempt(server, connect);
  const cancel = () => attempt.end('cancelled');
  const timer = setTimeout(() => attempt.end(attempt.answered ? 'no-path' : 'unreachable'), timeout);
  signal?.addEventListener('abort', cancel);
  if (signal?.aborted) cancel();
  else if (kind === 'stun') attempt.bind();
  else attempt.callItself();
  const problem = await attempt.ended;
  clearTimeout(timer);
  signal?.removeEventListener('abort', cancel);
  const {answered, errorCode} = attempt;
  return {kind, number, ok: problem === '', answered, ms: Math.round(performance.now() - started), problem, errorCode};
}

/** Attempt is the probe of one URL. It ends once, and closes its connections then. */
class Attempt {
  answered = false;
  errorCode = 0;
  /** @type {RTCPeerConnection[]} */
  #connections = [];
  /** @type {(problem: Problem | '') => void} */
  #resolve = () => {};
  #server;
  #connect;
  /** @type {Promise<Problem | ''>} */
  ended = new Promise(resolve => (this.#resolve = resolve));

  /**
   * @param {RTCIceServer} server
   * @param {Connect} connect
   */
  constructor(server, connect) {
    this.#server = server;
    this.#connect = connect;
  }

  /** @param {Problem | ''} problem */
  end(problem) {
    for (const connection of this.#connections.splice(0)) connection.close();
    this.#resolve(problem);
  }

  /**
   * Sends STUN binding requests. A device that has a public address gets no candidate
   * for the answer, but gathering completes without an error.
   */
  bind() {
    let hasUdp = false;
    const connection = this.#open('all', ({candidate, type}) => {
      if (/ udp /i.test(candidate)) hasUdp = true;
      if (type === 'srflx' || / typ srflx/.test(candidate)) this.#succeed();
    }, () => this.#endBinding(hasUdp));
    if (!connection) return;
    connection.createDataChannel('');
    connection.setLocalDescription().catch(() => this.end('blocked'));
  }

  /** @param {boolean} hasUdp whether the browser offers UDP at all */
  #endBinding(hasUdp) {
    if (this.errorCode) this.end(this.#serverProblem());
    else if (hasUdp) this.#succeed();
    else this.end('blocked');
  }

  #succeed() {
    this.answered = true;
    this.end('');
  }

  /** Opens two connections that use the relay only, and sends a message to and fro. */
  callItself() {
    /** @type {RTCPeerConnection | null} */
    let callee = null;
    /** @type {RTCPeerConnection | null} */
    let caller = null;
    /** @type {Promise<void>} */
    let negotiated = new Promise(() => {});
    const forward = (/** @type {() => RTCPeerConnection | null} */ to) => (/** @type {RTCIceCandidate} */ candidate) => {
      this.answered = true;
      void negotiated.then(() => to()?.addIceCandidate(candidate)).catch(() => {}); // closed in the meantime
    };
    caller = this.#open('relay', forward(() => callee), () => this.#endAllocation());
    callee = this.#open('relay', forward(() => caller), () => this.#endAllocation());
    if (!caller || !callee) return;
    echo(callee);
    sendAndReceive(caller, () => this.#succeed());
    negotiated = negotiate(caller, callee);
    negotiated.catch(() => this.end(this.answered ? 'no-path' : 'unreachable'));
  }

  /** Handles the end of gathering: without a relay there is nothing to wait for. */
  #endAllocation() {
    if (!this.answered) this.end(this.#serverProblem());
  }

  /** @returns {Problem} */
  #serverProblem() {
    return this.errorCode >= 300 && this.errorCode < 700 ? 'refused' : 'unreachable';
  }

  /**
   * Returns a connection, or null if the browser rejects the URL.
   * @param {RTCIceTransportPolicy} iceTransportPolicy
   * @param {(candidate: RTCIceCandidate) => void} onCandidate
   * @param {() => void} onGathered
   */
  #open(iceTransportPolicy, onCandidate, onGathered) {
    try {
      const connection = this.#connect({iceServers: [this.#server], iceTransportPolicy});
      this.#connections.push(connection);
      connection.addEventListener('icecandidate', ({candidate}) => candidate?.candidate && onCandidate(candidate));
      connection.addEventListener('icecandidateerror', ({errorCode}) => (this.errorCode = errorCode));
      connection.addEventListener('icegatheringstatechange', () => connection.iceGatheringState === 'complete' && onGathered());
      return connection;
    } catch {
      this.end('rejected');
      return null;
    }
  }
}

/**
 * @param {RTCPeerConnection} caller has a data channel
 * @param {RTCPeerConnection} callee
 */
async function negotiate(caller, callee) {
  await caller.setLocalDescription();
  await callee.setRemoteDescription(/** @type {RTCSessionDescription} */ (caller.localDescription));
  await callee.setLocalDescription();
  await caller.setRemoteDescription(/** @type {RTCSessionDescription} */ (callee.localDescription));
}

/** Returns each message of a connection. @param {RTCPeerConnection} connection */
function echo(connection) {
  connection.addEventListener('datachannel', ({channel}) =>
    channel.addEventListener('message', ({data}) => channel.send(data)));
}

/**
 * @param {RTCPeerConnection} connection
 * @param {() => void} onReceived
 */
function sendAndReceive(connection, onReceived) {
  const channel = connection.createDataChannel('probe');
  channel.addEventListener('open', () => channel.send('probe'));
  channel.addEventListener('message', onReceived);
}

/** @param {RTCConfiguration} configuration */
function newConnection(configuration) {
  return new RTCPeerConnection(configuration);
}
