/** Tests status.js: the notices for errors, and their countdown. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {flushPromises} from '../lib/inboxes.js';
import {ConnectionStatus, StatusView, noticeFor} from '../../../public/status.js';

for (const [status, code, title, retried] of /** @type {[number, string, RegExp, boolean][]} */ ([
  [400, 'bad-request', /refused a request/, false],
  [401, 'unauthorized', /another secret/, false],
  [403, 'cross-site', /does not accept requests from this page/, false],
  [404, 'not-found', /refused a request/, false],
  [408, 'body-too-slow', /unexpected answer/, true],
  [413, 'body-too-large', /only small messages/, false],
  [429, 'rate-limited', /Too many requests/, true],
  [500, 'internal', /unexpected answer/, true],
  [503, 'server-full', /is full/, true],
  [503, 'stopping', /is restarting/, true],
  [503, 'store-unavailable', /cannot reach its store/, true],
  [0, 'intercepted', /Another page answers/, true],
  [200, 'intercepted', /Another page answers/, true],
  [302, 'intercepted', /Another page answers/, true],
  [400, 'refused', /proxy in front of the server refused/, false],
  [401, 'refused', /proxy in front of the server asks for a login/, false],
  [403, 'refused', /proxy in front of the server refused/, false],
  [404, 'refused', /proxy in front of the server refused/, false],
  [407, 'refused', /proxy in front of the server asks for a login/, false],
  [408, 'refused', /proxy cannot reach the server/, true],
  [413, 'refused', /proxy in front of the server accepts only small/, false],
  [425, 'refused', /proxy cannot reach the server/, true],
  [429, 'refused', /proxy in front of the server limits requests/, true],
  [500, 'refused', /proxy cannot reach the server/, true],
  [502, 'refused', /proxy cannot reach the server/, true],
  [503, 'refused', /proxy cannot reach the server/, true],
  [504, 'refused', /proxy cannot reach the server/, true],
  [511, 'refused', /Another page answers/, true],
  [524, 'refused', /proxy cannot reach the server/, true],
])) {
  test(`${status} ${code}`, () => {
    const {title: got, hint = ''} = noticeFor({status, code});
    assert.match(got, title);
    assert.equal(/automatically/.test(hint), retried, `the hint is «${hint}»`);
  });
}

const noRefusal = () => assert.fail('the server is open');

/** FakeInbox only dispatches events. */
class FakeInbox extends EventTarget {
  status = 'idle';
  /** @param {string} status */
  setStatus(status) {
    this.status = status;
    this.dispatchEvent(new CustomEvent('status', {detail: status}));
  }
  /** @param {object} error */
  fail(error) { this.dispatchEvent(new CustomEvent('error', {detail: error})); }
  supersede() {
    this.setStatus('superseded');
    this.dispatchEvent(new CustomEvent('superseded', {detail: 'replaced'}));
  }
}

test('errors are shown, count down only to Retry-After, and clear', t => {
  t.mock.timers.enable({apis: ['Date'], now: 1_000_000});
  const inbox = new FakeInbox();
  let changes = 0;
  const connection = new ConnectionStatus(/** @type {any} */ (inbox), () => changes++, async () => 'unknown', noRefusal);
  const now = () => [connection.notice?.title ?? '', connection.until - Date.now(), changes];
  inbox.fail({status: 413, code: 'body-too-large', retryAfter: 0, retryIn: 0});
  assert.deepEqual([connection.notice, changes], [null, 0], 'the sender handles a permanent error');
  inbox.fail({status: 429, code: 'rate-limited', retryAfter: 7, retryIn: 7.5});
  assert.deepEqual(now(), ['Too many requests', 7500, 1]);
  inbox.fail({status: 500, code: 'internal', retryAfter: 0, retryIn: 0.5});
  assert.deepEqual([connection.notice?.title, connection.until, changes], ['The server gave an unexpected answer', 0, 2]);
  inbox.setStatus('retrying');
  assert.equal(changes, 2);
  inbox.setStatus('open');
  assert.deepEqual([connection.notice, connection.until, changes], [null, 0, 3]);
});

for (const [place, title] of /** @type {const} */ ([
  ['tab', 'Opened in another tab'], ['device', 'Opened on another device'], ['unknown', 'Opened somewhere else'],
])) {
  test(`superseded by a page whose place is ${place}`, async () => {
    const inbox = new FakeInbox();
    const connection = new ConnectionStatus(/** @type {any} */ (inbox), () => {}, async () => place, noRefusal);
    inbox.supersede();
    assert.deepEqual([connection.notice, connection.place], [null, null], 'not known yet');
    await flushPromises();
    assert.deepEqual([connection.notice?.title, connection.place], [title, place]);
    inbox.setStatus('open');
    assert.deepEqual([connection.notice, connection.place], [null, null]);
    inbox.supersede();
    inbox.setStatus('retrying'); // the user takes over before the place is known
    await flushPromises();
    assert.equal(connection.notice, null);
  });
}

test('an offline device and an unreachable server have different notices', t => {
  let online = true;
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator') ?? {value: undefined, configurable: true};
  Object.defineProperty(globalThis, 'navigator', {value: {get onLine() { return online; }}, configurable: true});
  t.after(() => Object.defineProperty(globalThis, 'navigator', before));
  assert.match(noticeFor({status: 0, code: 'network'}).title, /cannot be reached/);
  online = false;
  assert.match(noticeFor({status: 0, code: 'network'}).title, /offline/);
});

test('the countdown ends at zero, and a new notice restarts it', t => {
  t.mock.timers.enable({apis: ['setInterval', 'Date'], now: 1_000_000});
  /** @type {Record<string, {textContent: string}>} */
  const parts = {'.status-title': {textContent: ''}, '.status-hint': {textContent: ''}, '.status-countdown': {textContent: ''}};
  const root = {dataset: {tone: ''}, querySelector: (/** @type {string} */ selector) => parts[selector]};
  const view = new StatusView(/** @type {any} */ (root));
  const countdown = () => parts['.status-countdown'].textContent;
  view.show({tone: 'bad', title: 'Too many requests', hint: 'Wait.'}, Date.now() + 2_500);
  assert.deepEqual([root.dataset.tone, parts['.status-title'].textContent, parts['.status-hint'].textContent, countdown()],
    ['bad', 'Too many requests', 'Wait.', 'Next try in 3 s.']);
  t.mock.timers.tick(1_000);
  assert.equal(countdown(), 'Next try in 2 s.');
  t.mock.timers.tick(1_500);
  assert.equal(countdown(), '');
  view.show({tone: 'bad', title: 'Too many requests'}, Date.now() + 60_000);
  assert.deepEqual([parts['.status-hint'].textContent, countdown()], ['', 'Next try in 60 s.']);
  view.show({tone: 'good', title: 'Connected'});
  t.mock.timers.tick(1_000);
  assert.deepEqual([root.dataset.tone, countdown()], ['good', '']);
});
