/**
 * Finds out whether the page that has a mailbox now is a tab of this browser or on
 * another device. The tabs of a browser answer one another over a BroadcastChannel.
 */

import * as strings from './strings.js';

/** Milliseconds that a tab has to answer, and between two questions. */
const ANSWER_TIMEOUT = 700;
const ASK_INTERVAL = 200;

/** @typedef {'tab'|'device'|'unknown'} Place unknown: this browser has no BroadcastChannel */

/** Presence answers for the mailbox of this page, and asks for another page of it. */
export class Presence {
  #channel;
  #isActive;

  /**
   * @param {string} mailbox
   * @param {() => boolean} isActive whether this page has the mailbox, or is about to get it
   * @param {(name: string) => BroadcastChannel | null} [openChannel] for tests
   */
  constructor(mailbox, isActive, openChannel = newChannel) {
    this.#isActive = isActive;
    this.#channel = openChannel(`inbox ${mailbox}`);
    this.#channel?.addEventListener('message', ({data}) => {
      if (data === 'ask' && this.#isActive()) this.#channel?.postMessage('here');
    });
  }

  /**
   * Returns where the page is that has the mailbox now. It can be a tab that is still
   * loading, so the question is repeated.
   * @returns {Promise<Place>}
   */
  async find() {
    const channel = this.#channel;
    if (!channel) return 'unknown';
    const ask = () => channel.postMessage('ask');
    const repeat = setInterval(ask, ASK_INTERVAL);
    ask();
    const answered = await new Promise(resolve => {
      setTimeout(() => resolve(false), ANSWER_TIMEOUT);
      channel.addEventListener('message', ({data}) => data === 'here' && resolve(true));
    });
    clearInterval(repeat);
    return answered ? 'tab' : 'device';
  }

  close() {
    this.#channel?.close();
  }
}

/** @param {string} name */
function newChannel(name) {
  return 'BroadcastChannel' in globalThis ? new BroadcastChannel(name) : null;
}

/**
 * Returns a name of this device for the other side, such as “Firefox on Android”.
 * @param {string} userAgent
 */
export function deviceName(userAgent) {
  const browser = firstMatch(userAgent, browsers);
  const system = firstMatch(userAgent, systems);
  return browser && system ? strings.status.deviceName({browser, system}) : browser || system;
}

/** Most browsers also name those that they are compatible with, so the order matters. @type {[RegExp, string][]} */
const browsers = [
  [/Edg/, 'Edge'], [/OPR\//, 'Opera'], [/SamsungBrowser/, 'Samsung Internet'], [/Firefox|FxiOS/, 'Firefox'],
  [/Chrome|CriOS/, 'Chrome'], [/Safari/, 'Safari'],
];

/** @type {[RegExp, string][]} */
const systems = [
  [/iPhone/, 'iPhone'], [/iPad/, 'iPad'], [/Android/, 'Android'], [/Windows/, 'Windows'], [/CrOS/, 'ChromeOS'],
  [/Mac OS X/, 'Mac'], [/Linux/, 'Linux'],
];

/**
 * @param {string} text
 * @param {[RegExp, string][]} table
 */
function firstMatch(text, table) {
  return table.find(([pattern]) => pattern.test(text))?.[1] ?? '';
}
