/** Watches the selected network path of a connection in its statistics. */

/** Milliseconds between checks. */
const CHECK_INTERVAL = 500;
/** Milliseconds between checks while another path is expected. */
const FREQUENT_CHECK_INTERVAL = 100;
/** Milliseconds after which checks are no longer frequent. */
const FREQUENT_CHECK_TIME = 5_000;

/**
 * @typedef {object} Path
 * @property {string} id identifies the selected candidate pairs
 * @property {boolean} relayed whether a TURN server forwards the packets
 * @property {number} bytesReceived bytes that the pairs have received, without STUN messages
 * @property {boolean} mediaReceived whether the connection has ever received media
 */

/**
 * Returns the selected path, or null if there is none. A connection usually has
 * one transport; several count as one path.
 * @param {RTCStatsReport} report
 * @returns {Path | null}
 */
export function selectedPath(report) {
  const entries = [...report.values()];
  const pairs = entries.filter(({type}) => type === 'transport').flatMap(({selectedCandidatePairId: id}) => report.get(id) ?? []);
  if (pairs.length === 0) return null;
  return {
    id: pairs.map(({id}) => id).join(),
    relayed: pairs.some(pair => isRelay(report, pair.localCandidateId) || isRelay(report, pair.remoteCandidateId)),
    bytesReceived: pairs.reduce((sum, pair) => sum + (pair.bytesReceived ?? 0), 0),
    mediaReceived: entries.some(({type, bytesReceived}) => type === 'inbound-rtp' && bytesReceived > 0),
  };
}

/**
 * @param {RTCStatsReport} report
 * @param {string} id of a candidate
 */
function isRelay(report, id) {
  return report.get(id)?.candidateType === 'relay';
}

/** PathMonitor checks the path of one connection twice a second. Checks do not overlap. */
export class PathMonitor {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #frequentTimer;
  #checking = false;
  #connection;
  #onCheck;

  /**
   * @param {RTCPeerConnection} connection
   * @param {(path: Path | null) => void} onCheck called after each check, with null if no path is selected
   */
  constructor(connection, onCheck) {
    this.#connection = connection;
    this.#onCheck = onCheck;
  }

  /** Starts the checks, unless they have started. */
  start() {
    this.#timer ??= setInterval(() => this.#check(), CHECK_INTERVAL);
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#frequentTimer);
  }

  /** Checks ten times a second for five seconds, to detect another path early. */
  checkFrequently() {
    const end = Date.now() + FREQUENT_CHECK_TIME;
    const schedule = () => {
      this.checkNormally();
      this.#frequentTimer = setTimeout(() => {
        if (Date.now() < end) schedule();
        void this.#check();
      }, FREQUENT_CHECK_INTERVAL);
    };
    schedule();
  }

  /** Ends the frequent checks. */
  checkNormally() {
    clearTimeout(this.#frequentTimer);
  }

  async #check() {
    if (this.#checking) return;
    this.#checking = true;
    const connected = this.#connection.connectionState === 'connected';
    const report = connected && await this.#connection.getStats().catch(() => null); // rejected by a closed connection
    this.#checking = false;
    this.#onCheck(report ? selectedPath(report) : null);
  }
}
