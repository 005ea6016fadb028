/**
 * The status notice of a page: a title, a hint on what to do, actions, and a
 * countdown while the server asks for a delay.
 */

import * as strings from './strings.js';

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {import('./inbox.js').InboxError} InboxError
 * @typedef {'calm'|'busy'|'good'|'bad'} Tone
 * @typedef {import('./presence.js').Place} Place
 * @typedef {import('./refusal.js').Refusal} Refusal
 * @typedef {{tone: Tone, title: string, hint?: string}} Notice
 */

const texts = strings.status;

/** The error notices of all pages. @satisfies {Record<string, Notice>} */
export const notices = {
  badLink: {tone: 'bad', ...texts.badLink},
  insecure: {tone: 'bad', ...texts.insecure},
  unsupported: {tone: 'bad', ...texts.unsupported},
  offline: {tone: 'bad', ...texts.offline},
  unreachable: {tone: 'bad', ...texts.unreachable},
  limited: {tone: 'bad', ...texts.limited},
  full: {tone: 'bad', ...texts.full},
  stopping: {tone: 'busy', ...texts.stopping},
  'store-unavailable': {tone: 'busy', ...texts.storeUnavailable},
  locked: {tone: 'bad', ...texts.locked},
  tooLarge: {tone: 'bad', ...texts.tooLarge},
  forbidden: {tone: 'bad', ...texts.forbidden},
  refused: {tone: 'bad', ...texts.refused},
  unexpected: {tone: 'bad', ...texts.unexpected},
  intercepted: {tone: 'bad', ...texts.intercepted},
  proxyLogin: {tone: 'bad', ...texts.proxyLogin},
  proxyRefused: {tone: 'bad', ...texts.proxyRefused},
  proxyTooLarge: {tone: 'bad', ...texts.proxyTooLarge},
  proxyLimited: {tone: 'bad', ...texts.proxyLimited},
  proxyFailed: {tone: 'bad', ...texts.proxyFailed},
  unreadable: {tone: 'bad', ...texts.unreadable},
};

/** The notices of a page whose mailbox another page has taken over. @type {Record<Place, Notice>} */
const supersededNotices = {
  tab: {tone: 'busy', ...texts.supersededByTab},
  device: {tone: 'busy', ...texts.supersededByDevice},
  unknown: {tone: 'busy', ...texts.superseded},
};

/** @type {Map<number, Notice>} client errors with their own notice; 408 is temporary */
const clientErrorNotices = new Map([[401, notices.locked], [403, notices.forbidden], [408, notices.unexpected], [413, notices.tooLarge]]);

/** @type {Map<number, Notice>} client errors of proxies with their own notice; 408 and 425 are temporary */
const proxyErrorNotices = new Map([
  [401, notices.proxyLogin], [407, notices.proxyLogin], [408, notices.proxyFailed], [413, notices.proxyTooLarge],
  [425, notices.proxyFailed], [429, notices.proxyLimited], [511, notices.intercepted],
]);

/**
 * Returns the notice for an error status that is not from the inbox server.
 * @param {number} status
 */
function proxyNoticeFor(status) {
  return proxyErrorNotices.get(status) ?? notices[status >= 500 ? 'proxyFailed' : 'proxyRefused'];
}

/**
 * Returns the notice for an error.
 * @param {Pick<InboxError, 'code' | 'status'>} error
 */
export function noticeFor(error) {
  if (error.code === 'network') return navigator.onLine ? notices.unreachable : notices.offline;
  if (error.code === 'intercepted') return notices.intercepted;
  if (error.code === 'refused') return proxyNoticeFor(error.status);
  if (error.code === 'stopping' || error.code === 'store-unavailable') return notices[error.code];
  if (error.status === 429) return notices.limited;
  if (error.status === 503) return notices.full;
  return clientErrorNotices.get(error.status) ?? (error.status >= 400 && error.status < 500 ? notices.refused : notices.unexpected);
}

/** StatusView shows a notice. Screen readers announce its text, but not the countdown. */
export class StatusView {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * @param {Notice} notice
   * @param {number} [until] the time of the next attempt, in milliseconds as from Date.now()
   */
  show({tone, title, hint = ''}, until = 0) {
    this.#root.dataset.tone = tone;
    this.#setText('.status-title', title);
    this.#setText('.status-hint', hint);
    clearInterval(this.#timer);
    this.#updateCountdown(until);
    if (until > Date.now()) this.#timer = setInterval(() => this.#updateCountdown(until), 500);
  }

  /** @param {number} until */
  #updateCountdown(until) {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    this.#setText('.status-countdown', seconds > 0 ? texts.nextTry({seconds}) : '');
    if (seconds <= 0) clearInterval(this.#timer);
  }

  /**
   * Sets the text of an element if it changed, so that screen readers do not
   * announce it twice.
   * @param {string} selector
   * @param {string} text
   */
  #setText(selector, text) {
    const element = this.#root.querySelector(selector);
    if (element && element.textContent !== text) element.textContent = text;
  }
}

/** @type {WeakMap<Element, string>} what an element shows, so that it is not replaced under the user's finger */
const shown = new WeakMap();

/**
 * Shows actions in an element, or none. The test page opens in another tab, because
 * the call goes on trying.
 * @param {Element} element
 * @param {import('./actions.js').Action[]} actions
 * @param {() => void} retry runs when the user presses "Try again now"
 */
export function showActions(element, actions, retry) {
  const key = JSON.stringify(actions);
  if ((shown.get(element) ?? '[]') === key) return;
  shown.set(element, key);
  element.replaceChildren(...actions.map(action => createControl(action, retry)));
}

/**
 * @param {import('./actions.js').Action} action
 * @param {() => void} retry
 */
function createControl({kind, text}, retry) {
  const control = document.createElement(kind === 'test-page' || kind === 'start-page' ? 'a' : 'button');
  control.className = 'button button-quiet';
  control.textContent = text;
  if (control instanceof HTMLButtonElement) control.type = 'button';
  else control.href = kind === 'start-page' ? './' : 'test.html';
  if (kind === 'test-page') Object.assign(control, {target: '_blank', rel: 'noopener'});
  if (kind === 'retry') control.addEventListener('click', retry);
  if (kind === 'reload') control.addEventListener('click', () => location.reload());
  return control;
}

/** ConnectionStatus tracks the current error of an inbox, if any. */
export class ConnectionStatus {
  /** @type {Notice | null} */
  notice = null;
  until = 0;
  /** Where the page is that has taken the mailbox over, null if none has or while that is not known. @type {Place | null} */
  place = null;
  /** Why a private server refuses the inbox. @type {Refusal | null} */
  refusal = null;
  #inbox;
  #onChange;
  #findPlace;
  #findRefusal;

  /**
   * @param {Inbox} inbox
   * @param {() => void} onChange
   * @param {() => Promise<Place>} findPlace returns where the page is that has the mailbox
   * @param {(error: InboxError) => Promise<Refusal>} findRefusal returns what to say of a refusal
   */
  constructor(inbox, onChange, findPlace, findRefusal) {
    this.#inbox = inbox;
    this.#onChange = onChange;
    this.#findPlace = findPlace;
    this.#findRefusal = findRefusal;
    void this.#onRefused();
    inbox.addEventListener('error', event => {
      const {detail} = /** @type {CustomEvent<InboxError>} */ (event);
      if (detail === inbox.refusal) return void this.#onRefused();
      if (!detail.retryIn) return; // a rejected message: its sender handles the error
      this.#set(noticeFor(detail), detail.retryAfter ? Date.now() + detail.retryIn * 1000 : 0);
    });
    inbox.addEventListener('status', () => {
      if (inbox.status !== 'open') return;
      this.refusal = null;
      this.#set(null);
    });
    inbox.addEventListener('superseded', () => this.#onSuperseded());
  }

  async #onRefused() {
    const {status, refusal} = this.#inbox;
    const found = status === 'refused' && refusal && await this.#findRefusal(refusal);
    if (!found || this.#inbox.status !== 'refused') return;
    this.refusal = found;
    this.#set({tone: 'bad', title: found.title, hint: found.hint});
  }

  async #onSuperseded() {
    this.#set(null); // and the state of the inbox
    const place = await this.#findPlace();
    if (this.#inbox.status === 'superseded') this.#set(supersededNotices[place], 0, place);
  }

  /**
   * @param {Notice | null} notice
   * @param {number} [until]
   * @param {Place | null} [place]
   */
  #set(notice, until = 0, place = null) {
    this.notice = notice;
    this.until = until;
    this.place = place;
    this.#onChange();
  }
}
