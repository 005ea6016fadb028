/** Tests call-watch.js: when a reason is given, what it is made of, and when it ends. */

import assert from 'node:assert/strict';
import {beforeEach, test} from 'node:test';
import {CallWatch} from '../../../public/call-watch.js';
import {Diagnosis} from '../../../public/diagnosis.js';
import {Evidence} from '../../../public/evidence.js';

/** @typedef {import('../../../public/session.js').EndpointState} EndpointState */

class FakeInbox extends EventTarget {
  /** @type {import('../../../public/inbox.js').Status} */
  status = 'open';

  receive(from = 'remote') {
    this.dispatchEvent(new CustomEvent('message', {detail: {from}}));
  }
}

class FakeEndpoint extends EventTarget {
  inbox = new FakeInbox();
  to = 'remote';
  live = false;
  retries = 0;
  /** @type {EndpointState} */
  state = 'waiting';
  /** @type {{evidence: Evidence} | null} */
  peer = null;

  retry() {
    this.retries++;
  }

  /** @param {EndpointState} state */
  set(state) {
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }

  /** Begins a call of which the other page has sent a message. */
  call() {
    this.inbox.receive();
    this.peer = {evidence: new Evidence()};
    this.peer.evidence.local.add('host');
    this.set('connecting');
  }
}

/** @type {FakeEndpoint} */
let endpoint;
/** @type {unknown[][]} the arguments of the runs of probes */
let runs;
/** @type {(import('../../../public/reason.js').ReasonId | null)[]} */
let reasons;
const ice = {servers: /** @type {RTCIceServer[]} */ ([{urls: 'stun:a'}]), last: {iceServers: []}};

beforeEach(() => {
  endpoint = new FakeEndpoint();
  runs = [];
  reasons = [];
});

/** @param {import('node:test').TestContext} t */
function watch(t) {
  t.mock.timers.enable({apis: ['Date', 'setInterval'], now: 1_000_000});
  const diagnosis = new Diagnosis(async (...args) => {
    runs.push(args);
    return [];
  });
  const watched = new CallWatch({endpoint, ice, diagnosis});
  watched.addEventListener('reason', () => reasons.push(watched.reason?.id ?? null));
  return watched;
}

/** Passes time, with the promises of each step. @param {import('node:test').TestContext} t @param {number} seconds */
async function pass(t, seconds) {
  for (let i = 0; i < seconds * 2; i++) {
    t.mock.timers.tick(500);
    await new Promise(resolve => setImmediate(resolve));
  }
}

test('a reason is given before twelve seconds have passed, once, and ends with the connection', async t => {
  watch(t);
  endpoint.call();
  await pass(t, 10);
  assert.deepEqual(reasons, []);
  await pass(t, 1.5);
  assert.deepEqual(reasons, ['noRelay']);
  await pass(t, 5);
  assert.deepEqual(reasons, ['noRelay']);
  endpoint.set('connected');
  await pass(t, 20);
  assert.deepEqual(reasons, ['noRelay', null]);
});

test('a call that connects in time is not probed', async t => {
  watch(t);
  endpoint.call();
  await pass(t, 3.5);
  endpoint.set('connected');
  await pass(t, 20);
  assert.deepEqual([reasons, runs.length], [[], 0]);
});

test('the servers of the list are probed with a limit, once a minute, and cancelled on connection', async t => {
  watch(t);
  endpoint.call();
  await pass(t, 5);
  const [targets, options] = /** @type {[unknown[], {timeout: number, signal: AbortSignal}]} */ (runs[0]);
  assert.deepEqual([targets.length, options.timeout, options.signal.aborted], [1, 6_500, false]);
  for (let i = 0; i < 10; i++) {
    await pass(t, 5);
    endpoint.inbox.receive();
  }
  assert.equal(runs.length, 1);
  await pass(t, 15);
  assert.equal(runs.length, 2);
  endpoint.set('connected');
  assert.ok(options.signal.aborted);
});

test('a lost connection is an attempt of its own', async t => {
  watch(t);
  endpoint.call();
  endpoint.set('connected');
  await pass(t, 60);
  endpoint.inbox.receive();
  endpoint.set('reconnecting');
  await pass(t, 11.5);
  assert.deepEqual(reasons, ['noRelay']);
});

test('the time goes on through new calls, and ends when the other page stops', async t => {
  watch(t);
  endpoint.call();
  await pass(t, 8);
  endpoint.set('present'); // the camera page makes a new call
  await pass(t, 1);
  endpoint.call();
  await pass(t, 2.5);
  assert.deepEqual(reasons, ['noRelay']);
  endpoint.set('present'); // the camera page has stopped
  await pass(t, 4);
  assert.deepEqual(reasons, ['noRelay', null]);
  await pass(t, 20);
  assert.deepEqual(reasons, ['noRelay', null]);
});

test('a page that calls again and again keeps the attempt while no call exists', async t => {
  watch(t);
  endpoint.live = true;
  endpoint.call();
  await pass(t, 5);
  endpoint.set('present');
  await pass(t, 5);
  endpoint.call();
  await pass(t, 1.5);
  assert.deepEqual(reasons, ['noRelay']);
});

for (const [name, state] of /** @type {[string, EndpointState][]} */ ([['leaves', 'waiting'], ['was never there', 'waiting']])) {
  test(`no reason while the other page ${name}`, async t => {
    watch(t);
    if (name === 'leaves') endpoint.call();
    endpoint.set(state);
    await pass(t, 30);
    assert.deepEqual(reasons, []);
  });
}

test('the other page is silent', async t => {
  watch(t);
  endpoint.peer = {evidence: new Evidence()};
  endpoint.set('connecting');
  endpoint.inbox.receive('stranger');
  await pass(t, 11.5);
  assert.deepEqual(reasons, ['silent']);
  endpoint.inbox.receive();
  await pass(t, 1);
  assert.deepEqual(reasons, ['silent', 'blocked']);
  await pass(t, 26);
  assert.deepEqual(reasons.at(-1), 'silent');
});

test('the server does not respond', async t => {
  watch(t);
  endpoint.call();
  endpoint.inbox.status = 'retrying';
  await pass(t, 11.5);
  assert.deepEqual(reasons, ['server']);
  endpoint.inbox.status = 'open';
  await pass(t, 1);
  assert.deepEqual(reasons, ['server', 'noRelay']);
});

test('a superseded page has no reason', async t => {
  watch(t);
  endpoint.call();
  endpoint.inbox.status = 'superseded';
  await pass(t, 20);
  assert.deepEqual(reasons, []);
});

test('retry says hello', t => {
  watch(t).retry();
  assert.equal(endpoint.retries, 1);
});
