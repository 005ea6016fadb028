/**
 * Decides when a call restarts ICE. It has no timer, no clock and no connection:
 * peer.js reports what it observes, and queries whether a restart is due.
 *
 * Browsers detect a dead path late. After a relay has stopped, Firefox reports
 * "connected" for 30 seconds, Chromium for five. Therefore ICE also restarts when a
 * relayed path receives no bytes for three seconds, provided that the remote peer
 * sends live media: a call without media can be silent for any time. It also
 * restarts when the signaling channel of a relayed call works again after an
 * outage, because the relay is usually a part of the same server.
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
 *   why ICE restarts: the state of the connection, no received bytes, a restored
 *   signaling channel, a request of the remote peer, or a restart that timed out
 */

/** RestartPolicy is the state of one call. All times are milliseconds of the same clock. */
export class RestartPolicy {
  /** @type {RTCPeerConnectionState} */
  #state = 'new';
  #stateSince = 0;
  #wasConnected = false;
  /** The last selected path, null before the first one. @type {Path | null} */
  path = null;
  /** When the path last received bytes. */
  #receivedAt = 0;
  /** Whether the remote peer sends live media, as stated in its signals. */
  remoteSending = false;
  #signalingOpen = true;
  /** Whether the signaling channel was restored after the last restart. */
  #signalingRestored = false;
  #requested = false;
  /** The number of restarts in the current series. */
  #attempts = 0;
  #lastAttempt = 0;

  /** Whether the last selected path is relayed. */
  get relayed() {
    return this.path?.relayed ?? false;
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
    const received = path.id !== this.path?.id || path.bytesReceived !== this.path.bytesReceived;
    if (received) this.#receivedAt = now;
    this.path = path;
    return received;
  }

  /**
   * Reports whether the signaling channel works. During an outage no restart is
   * due, because its signals would not arrive.
   * @param {boolean} open
   */
  setSignaling(open) {
    if (open && !this.#signalingOpen) this.#signalingRestored = this.#wasConnected && (this.relayed || this.#state !== 'connected');
    this.#signalingOpen = open;
  }

  /**
   * Reports that the remote peer requests a restart. The request is ignored while
   * the last restart can still succeed; the remote peer repeats it if necessary.
   * @param {number} now
   */
  request(now) {
    this.#requested = now >= this.#lastAttempt + this.#interval(ATTEMPT_TIME, now);
  }

  /**
   * Reports that this side begins a restart, or requests one.
   * @param {number} now
   */
  begin(now) {
    this.#beginAttempt(this.#attemptsAt(now) + 1, now);
  }

  /**
   * Reports that the remote peer has restarted ICE, possibly at the request of
   * this side.
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
   * Whether a relayed path has received nothing for three seconds although the
   * remote peer sends media.
   * @param {number} now
   */
  silent(now) {
    return this.#state === 'connected' && this.remoteSending && this.path !== null
      && this.path.relayed && this.path.mediaReceived && now - Math.max(this.#receivedAt, this.#lastAttempt) >= TOLERANCE;
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
