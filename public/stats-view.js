/**
 * What the statistics of a connection say to a person: the path, the resolutions
 * and the loss. summarize does not use the DOM.
 */

import {selectedPath} from './path.js';
import * as strings from './strings.js';

/** Milliseconds between two reports. */
const INTERVAL = 1_000;

/**
 * @typedef {{width: number, height: number, rate: number}} Picture in pixels and frames per second
 * @typedef {object} Summary
 * @property {'direct'|'relayed'|null} path null while it is unknown
 * @property {string} protocol of the relay, such as 'tls'; '' for a direct path
 * @property {number | null} roundTrip in milliseconds
 * @property {Picture | null} received
 * @property {Picture | null} sent
 * @property {number | null} lossIn the part of received packets that was lost since the previous report, from 0 to 1
 * @property {number | null} lossOut the part of sent packets that was lost, as the remote side reports it
 * @property {{lost: number, received: number}} packets the totals for the next report
 */

/**
 * Returns the summary of a report.
 * @param {ReadonlyMap<string, any>} report
 * @param {Summary | null} [previous] the summary of the previous report
 * @returns {Summary}
 */
export function summarize(report, previous = null) {
  const entries = [...report.values()];
  const path = selectedPath(/** @type {any} */ (report));
  const inbound = entries.filter(({type}) => type === 'inbound-rtp');
  const packets = {lost: sum(inbound, 'packetsLost'), received: sum(inbound, 'packetsReceived')};
  const pair = report.get(entries.find(({type}) => type === 'transport')?.selectedCandidatePairId);
  return {
    path: path && (path.relayed ? 'relayed' : 'direct'),
    protocol: path?.relayed ? report.get(pair?.localCandidateId)?.relayProtocol ?? '' : '',
    roundTrip: typeof pair?.currentRoundTripTime === 'number' ? pair.currentRoundTripTime * 1000 : null,
    received: picture(inbound),
    sent: picture(entries.filter(({type}) => type === 'outbound-rtp')),
    lossIn: lossSince(packets, previous?.packets),
    lossOut: largest(entries.filter(({type}) => type === 'remote-inbound-rtp').map(({fractionLost}) => fractionLost)),
    packets,
  };
}

/** @param {any[]} entries @param {string} key */
function sum(entries, key) {
  return entries.reduce((total, entry) => total + (entry[key] ?? 0), 0);
}

/**
 * Returns the video of some streams, null if none has a picture.
 * @param {any[]} entries
 * @returns {Picture | null}
 */
function picture(entries) {
  const video = entries.find(({kind, frameWidth}) => kind === 'video' && frameWidth > 0);
  return video ? {width: video.frameWidth, height: video.frameHeight, rate: Math.round(video.framesPerSecond ?? 0)} : null;
}

/**
 * @param {{lost: number, received: number}} packets
 * @param {{lost: number, received: number}} [before]
 */
function lossSince(packets, before) {
  if (!before) return null;
  const lost = Math.max(0, packets.lost - before.lost);
  const all = lost + packets.received - before.received;
  return all > 0 ? lost / all : null;
}

/** @param {unknown[]} values */
function largest(values) {
  const numbers = values.filter(value => typeof value === 'number');
  return numbers.length > 0 ? Math.max(...numbers) : null;
}

/**
 * Returns the lines of a summary as pairs of a name and a value.
 * @param {Summary} summary
 * @returns {[string, string][]}
 */
export function describe({path, protocol, roundTrip, received, sent, lossIn, lossOut}) {
  const texts = strings.call;
  return [
    [texts.statsPath, path === 'relayed' ? texts.relayed({protocol: protocol.toUpperCase()}) : path ? texts.direct : texts.unknown],
    [texts.statsRoundTrip, roundTrip === null ? texts.unknown : texts.milliseconds({value: Math.round(roundTrip)})],
    [texts.statsReceived, received ? texts.pictureSize(received) : texts.noPicture],
    [texts.statsSent, sent ? texts.pictureSize(sent) : texts.noPicture],
    [texts.statsLossIn, lossIn === null ? texts.unknown : texts.percent({value: percent(lossIn)})],
    [texts.statsLossOut, lossOut === null ? texts.unknown : texts.percent({value: percent(lossOut)})],
  ];
}

/** @param {number} part from 0 to 1 */
function percent(part) {
  const value = part * 100;
  return value === 0 || value >= 10 ? String(Math.round(value)) : value.toFixed(1);
}

/** StatsView updates a description list once a second while it is open. */
export class StatsView {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  /** @type {Summary | null} */
  #summary = null;
  #list;
  #getStats;
  #inbox;

  /**
   * @param {HTMLElement} list a dl element
   * @param {() => Promise<ReadonlyMap<string, any> | null>} getStats null without a connection
   * @param {{transport: import('./transports.js').Transport}} inbox
   */
  constructor(list, getStats, inbox) {
    this.#list = list;
    this.#getStats = getStats;
    this.#inbox = inbox;
  }

  /** @param {boolean} open */
  setOpen(open) {
    clearInterval(this.#timer);
    this.#summary = null;
    if (!open) return;
    this.#timer = setInterval(() => this.#update(), INTERVAL);
    void this.#update();
  }

  async #update() {
    const report = await this.#getStats().catch(() => null); // rejected by a closed connection
    if (!report) return this.#list.replaceChildren();
    this.#summary = summarize(report, this.#summary);
    const {statsTransport, transports} = strings.call;
    const [path, ...others] = describe(this.#summary);
    const lines = [path, [statsTransport, transports[this.#inbox.transport]], ...others];
    this.#list.replaceChildren(...lines.map(([name, value]) => row(name, value)));
  }
}

/** @param {string} name @param {string} value */
function row(name, value) {
  const group = document.createElement('div');
  const term = document.createElement('dt');
  const detail = document.createElement('dd');
  term.textContent = name;
  detail.textContent = value;
  group.append(term, detail);
  return group;
}
