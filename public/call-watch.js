/**
 * Watches the calls of an endpoint, and says within twelve seconds why there is no
 * connection. It probes the ICE servers of the page meanwhile.
 */

import {Diagnosis} from './diagnosis.js';
import {turnOff, urlKind} from './ice-urls.js';
import {splitUrls} from './ice.js';
import {reasonFor} from './reason.js';

/** Milliseconds without a connection before the servers are probed. */
const PROBE_AFTER = 4_000;
/** Milliseconds that a probe can take, so that its result is part of the reason. */
const PROBE_TIME = 6_500;
/** Milliseconds without a connection before a reason is given. */
const REASON_AFTER = 11_000;
/** Milliseconds without a call before an attempt ends: a new call replaces the last one sooner. */
const PAUSE = 3_000;
/** Milliseconds without a message after which the other page is silent. A failing call sends more often. */
const SILENCE = 25_000;
/** Milliseconds before an attempt in which the message that caused it can have arrived. */
const CAUSE = 5_000;
/** Number of calls of an attempt whose evidence counts: the last one can be too young. */
const MAX_CALLS = 2;
const TICK_INTERVAL = 500;

const sharedDiagnosis = new Diagnosis();

/**
 * @typedef {import('./reason.js').Reason} Reason
 * @typedef {import('./reason.js').Facts} Facts
 * @typedef {import('./evidence.js').Evidence} Evidence
 * @typedef {import('./ice.js').IceServers} IceServers
 * @typedef {EventTarget & {state: import('./session.js').EndpointState, live: boolean,
 *   peer: {evidence: Evidence} | null, retry: () => void,
 *   inbox: EventTarget & {status: import('./inbox.js').Status}, to: string,
 *   iceTransportPolicy?: RTCIceTransportPolicy}} Endpoint those of session.js
 */

/**
 * CallWatch gives the reason of one endpoint. It dispatches an event `reason` when its
 * property has changed; the reason is null while the call connects, and when it is
 * connected. An attempt begins when a call begins or loses its connection, and goes on
 * through all calls that follow.
 */
export class CallWatch extends EventTarget {
  /** @type {Reason | null} */
  reason = null;
  /** When the attempt began, in milliseconds as from Date.now(); 0 for no attempt. */
  #began = 0;
  /** When the last call of the attempt existed. */
  #lastCall = 0;
  /** When the last message of the other page arrived. */
  #lastMessage = 0;
  /** @type {Evidence[]} that of the last calls of the attempt */
  #evidence = [];
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #abort = new AbortController();
  #endpoint;
  #ice;
  #diagnosis;

  /**
   * @param {object} options
   * @param {Endpoint} options.endpoint
   * @param {Pick<IceServers, 'servers' | 'last'>} options.ice the list that the calls of the endpoint use
   * @param {Diagnosis} [options.diagnosis] that of the page, which limits how often its endpoints probe
   */
  constructor({endpoint, ice, diagnosis = sharedDiagnosis}) {
    super();
    this.#endpoint = endpoint;
    this.#ice = ice;
    this.#diagnosis = diagnosis;
    endpoint.addEventListener('state', () => this.#update());
    if (endpoint.state !== 'waiting') this.#lastMessage = Date.now(); // it had no listener before
    endpoint.inbox.addEventListener('message', event => {
      if (/** @type {CustomEvent} */ (event).detail.from === endpoint.to) this.#lastMessage = Date.now();
    });
    this.#update();
  }

  /** Requests a new call now. */
  retry() {
    void this.#endpoint.retry();
  }

  #update() {
    const {state, peer, live, inbox} = this.#endpoint;
    const now = Date.now();
    const calling = state === 'connecting' || state === 'reconnecting';
    if (calling || (state === 'present' && live)) this.#lastCall = now;
    if (calling) this.#begin(now);
    if (calling && peer && !this.#evidence.includes(peer.evidence)) this.#evidence = [...this.#evidence, peer.evidence].slice(-MAX_CALLS);
    if (state === 'connected' || state === 'waiting' || inbox.status === 'superseded') this.#end();
    else if (this.#began && now - this.#lastCall > PAUSE) this.#end();
  }

  /** @param {number} now */
  #begin(now) {
    if (this.#began) return;
    this.#began = now;
    this.#timer = setInterval(() => this.#tick(), TICK_INTERVAL);
  }

  #end() {
    clearInterval(this.#timer);
    this.#began = 0;
    this.#evidence = [];
    this.#abort.abort();
    this.#setReason(null);
  }

  #tick() {
    this.#update();
    if (!this.#began) return;
    const elapsed = Date.now() - this.#began;
    if (elapsed >= PROBE_AFTER) this.#probe();
    if (elapsed >= REASON_AFTER) this.#setReason(reasonFor(this.#facts()));
  }

  /** Starts probes. Diagnosis limits how often. */
  #probe() {
    if (this.#abort.signal.aborted) this.#abort = new AbortController();
    if (!this.#diagnosis.running) void this.#diagnosis.run(this.#ice.servers, {timeout: PROBE_TIME, signal: this.#abort.signal});
  }

  /** @returns {Facts} */
  #facts() {
    const {inbox, iceTransportPolicy} = this.#endpoint;
    const all = this.#evidence;
    return {
      online: globalThis.navigator?.onLine !== false,
      serverReachable: inbox.status === 'open',
      remoteSilent: this.#remoteSilent,
      listKnown: this.#ice.last !== null,
      offered: kindsOf(this.#ice.servers),
      turnOff: turnOff(this.#ice),
      relayOnly: iceTransportPolicy === 'relay',
      local: unique(all.flatMap(({local}) => [...local])),
      remote: unique(all.flatMap(({remote}) => [...remote])),
      errors: all.flatMap(({errors}) => errors),
      probes: this.#diagnosis.results,
      probing: this.#diagnosis.running,
    };
  }

  get #remoteSilent() {
    return this.#lastMessage < this.#began - CAUSE || Date.now() - this.#lastMessage > SILENCE;
  }

  /** @param {Reason | null} reason */
  #setReason(reason) {
    if (JSON.stringify(reason) === JSON.stringify(this.reason)) return;
    this.reason = reason;
    this.dispatchEvent(new CustomEvent('reason', {detail: reason}));
  }
}

/** @param {RTCIceServer[]} servers */
function kindsOf(servers) {
  return unique(splitUrls(servers).map(({urls}) => urlKind(urls)).filter(kind => kind !== null));
}

/**
 * @template T
 * @param {T[]} list
 */
function unique(list) {
  return [...new Set(list)];
}
