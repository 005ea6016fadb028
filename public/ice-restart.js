/**
 * Decides when a call restarts ICE. It has no timer, no clock and no connection:
 * peer.js reports what it observes, and asks whether a restart is due.
 *
 * Browsers notice a dead path late. Firefox reports "connected" for 30 seconds
 * after a relay is gone, Chromium for five. Therefore silence counts as well, but
 * only on a relayed path whose remote peer sends live media, because a call
 * without media is silent for long times. A lost signaling channel counts if the
 * path is relayed, because the relay and the channel are usually the same server.
 */

/** Milliseconds that a path can be disconnected, or receive nothing. */
const TOLERANCE = 3_000;
/** Milliseconds without received bytes after which a path is idle. */
const IDLE_TIME = 1_000;
/** Milliseconds that a restart has to succeed before the next one. */
const ATTEMPT_TIME = 5_000;
/** The same after the signaling channel was lost: signals of the last restart can be lost too. */
const SIGNALING_ATTEMPT_TIME = 1_000;
/** Maximum milliseconds between two restarts of a call that does not recover. */
const MAX_INTERVAL = 20_000;
/** Milliseconds without a restart after which the next one is the first of a new series. */
const SERIES_END = 30_000;

/**
 * @typedef {import('./path.js').Path} Path
 * @typedef {'failed'|'disconnected'|'silent'|'signaling'|'requested'|'unfinished'} Reason
 *   why ICE restarts: the state of the connection, no received bytes, the
 *   signaling channel works again, the remote peer asked for it, or the last
 *   restart has not succeeded in time
 */

/** RestartPolicy holds what is known about one call. All times are milliseconds of the same clock. */
export class RestartPolicy {
  /** @type {RTCPeerConnectionState} */
  #state = 'new';
  #stateSince = 0;
  #wasConnected = false;
  /** @type {Path | null} the last selected path */
  #path = null;
  /** When the path last received bytes. */
  #receivedAt = 0;
  #remoteSending = false;
  #signalingOpen = true;
  /** Whether the signaling channel was lost and works again since the last restart. */
  #signalingRestored = false;
  #requested = false;
  /** The number of restarts in the current series. */
  #attempts = 0;
  #lastAttempt = 0;

  /** The last selected path, null before the first one. */
  get path() {
    return this.#path;
  }

  /** Whether the last selected path is relayed. */
  get relayed() {
    return this.#path?.relayed ?? false;
  }

  /**
   * @param {RTCPeerConnectionState} state
   * @param {number} now
   */
  setState(state, now) {
    if (state === this.#state) return;
    if (state === 'connected') {
      this.#wasConnected = true;
      this.#receivedAt = now;
    }
    this.#state = state;
    this.#stateSince = now;
  }

  /**
   * Reports the selected path, and returns whether it has received bytes since the last report.
   * @param {Path} path
   * @param {number} now
   */
  setPath(path, now) {
    const received = path.id !== this.#path?.id || path.bytesReceived !== this.#path.bytesReceived;
    if (received) this.#receivedAt = now;
    this.#path = path;
    return received;
  }

  get remoteSending() {
    return this.#remoteSending;
  }

  /**
   * Reports whether the remote peer sends live media, which it says in its signals.
   * @param {boolean} sending
   */
  setRemoteSending(sending) {
    this.#remoteSending = sending;
  }

  /**
   * Reports whether the signaling channel works. While it does not, no restart is
   * due, because its signals would not arrive.
   * @param {boolean} open
   */
  setSignaling(open) {
    if (open && !this.#signalingOpen) this.#signalingRestored = this.#wasConnected && (this.relayed || this.#state !== 'connected');
    this.#signalingOpen = open;
  }

  /**
   * Reports that the remote peer asks for a restart. It is ignored while the last
   * restart can still succeed; the remote peer asks again.
   * @param {number} now
   */
  request(now) {
    this.#requested = now >= this.#lastAttempt + this.#interval(ATTEMPT_TIME, now);
  }

  /**
   * Reports that this side begins a restart, or asks for one.
   * @param {number} now
   */
  begin(now) {
    this.#beginAttempt(this.#attemptsAt(now) + 1, now);
  }

  /**
   * Reports that the remote peer has restarted ICE, possibly because this side
   * has asked for it.
   * @param {number} now
   */
  beginRemote(now) {
    this.#beginAttempt(Math.max(1, this.#attemptsAt(now)), now);
  }

  /**
   * @param {number} attempts
   * @param {number} now
   */
  #beginAttempt(attempts, now) {
    this.#attempts = attempts;
    this.#lastAttempt = now;
    this.#requested = this.#signalingRestored = false;
  }

  /**
   * Whether the path has received nothing for a second. It is probably dead:
   * media, or feedback on media, arrives more often.
   * @param {number} now
   */
  idle(now) {
    return now - this.#receivedAt >= IDLE_TIME;
  }

  /**
   * Whether the path receives nothing although it should.
   * @param {number} now
   */
  silent(now) {
    return this.#state === 'connected' && this.#remoteSending && this.#path !== null
      && this.#path.relayed && this.#path.mediaReceived && now - Math.max(this.#receivedAt, this.#lastAttempt) >= TOLERANCE;
  }

  /**
   * Returns why a restart must begin now, or null.
   * @param {number} now
   * @returns {Reason | null}
   */
  due(now) {
    const reason = this.#signalingOpen ? this.#reason(now) : null;
    const time = reason === 'signaling' ? SIGNALING_ATTEMPT_TIME : ATTEMPT_TIME;
    return reason !== null && now >= this.#lastAttempt + this.#interval(time, now) ? reason : null;
  }

  /**
   * @param {number} now
   * @returns {Reason | null}
   */
  #reason(now) {
    if (this.#signalingRestored) return 'signaling';
    if (this.#state === 'failed') return 'failed';
    if (this.#requested) return 'requested';
    if (this.#state === 'disconnected' && now - this.#stateSince >= TOLERANCE) return 'disconnected';
    if (this.silent(now)) return 'silent';
    const unfinished = this.#state === 'connecting' && this.#attemptsAt(now) > 0 && now - this.#stateSince >= ATTEMPT_TIME;
    return unfinished ? 'unfinished' : null;
  }

  /**
   * Returns the time between the last restart and the next one: it doubles with
   * each restart of a series.
   * @param {number} time milliseconds after the first restart
   * @param {number} now
   */
  #interval(time, now) {
    const attempts = this.#attemptsAt(now);
    return attempts === 0 ? 0 : Math.min(MAX_INTERVAL, time * 2 ** (attempts - 1));
  }

  /** @param {number} now */
  #attemptsAt(now) {
    return now - this.#lastAttempt >= SERIES_END ? 0 : this.#attempts;
  }
}
