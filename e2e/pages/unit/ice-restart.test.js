/** Tests ice-restart.js: when a call restarts ICE, and when it does not. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {RestartPolicy} from '../../../public/ice-restart.js';

/** The milliseconds between two checks. */
const STEP = 500;

/** Call is a policy with a clock. It begins connected, with live media on a relayed path. */
class Call {
  now = 1_000_000;
  policy = new RestartPolicy();
  path = {id: 'P1', relayed: true, bytesReceived: 1_000, mediaReceived: true};
  /** Whether each step receives bytes. */
  receiving = true;
  /** @type {[number, string][]} the restarts: the milliseconds since start() and the reason */
  restarts = [];
  #start = this.now;

  constructor() {
    this.policy.setState('connecting', this.now);
    this.policy.setState('connected', this.now);
    this.policy.remoteSending = true;
    this.pass(5_000);
    this.start();
  }

  /** Begins to measure. */
  start() {
    this.#start = this.now;
    this.restarts = [];
  }

  /** @param {number} milliseconds */
  pass(milliseconds) {
    for (const end = this.now + milliseconds; this.now < end;) {
      this.now += STEP;
      if (this.receiving) this.path = {...this.path, bytesReceived: this.path.bytesReceived + 100};
      this.policy.setPath(this.path, this.now);
      this.check();
    }
    return this.restarts;
  }

  check() {
    const reason = this.policy.due(this.now);
    if (!reason) return;
    this.restarts.push([this.now - this.#start, reason]);
    this.policy.begin(this.now);
  }

  /** @param {RTCPeerConnectionState} state */
  setState(state) {
    this.policy.setState(state, this.now);
    this.check();
  }

  /** @param {boolean} open */
  setSignaling(open) {
    this.policy.setSignaling(open);
    this.check();
  }

  request() {
    this.policy.request(this.now);
    this.check();
  }
}

test('a call that receives media never restarts', () => {
  assert.deepEqual(new Call().pass(600_000), []);
});

test('a failed connection restarts at once', () => {
  const call = new Call();
  call.setState('failed');
  assert.deepEqual(call.restarts, [[0, 'failed']]);
});

test('a disconnected connection has three seconds to recover', () => {
  const call = new Call();
  call.policy.remoteSending = false;
  call.setState('disconnected');
  call.pass(2_500);
  call.setState('connected');
  assert.deepEqual(call.pass(10_000), []);
  call.start();
  call.setState('disconnected');
  assert.deepEqual(call.pass(4_000), [[3_000, 'disconnected']]);
});

test('a relayed call that receives nothing for three seconds restarts', () => {
  const call = new Call();
  call.receiving = false;
  assert.deepEqual(call.pass(4_000), [[3_000, 'silent']]);
});

for (const [name, change] of /** @type {[string, (call: Call) => void][]} */ ([
  ['a direct path', call => { call.path = {...call.path, relayed: false}; }],
  ['a remote peer that sends no live media', call => call.policy.remoteSending = false],
  ['a call that has never received media', call => { call.path = {...call.path, mediaReceived: false}; }],
])) {
  test(`silence does not count: ${name}`, () => {
    const call = new Call();
    change(call);
    call.receiving = false;
    assert.deepEqual(call.pass(60_000), []);
  });
}

test('silence counts from the time when media continues', () => {
  const call = new Call();
  call.policy.remoteSending = false;
  call.receiving = false;
  call.pass(60_000);
  call.receiving = true;
  call.pass(500);
  call.policy.remoteSending = true;
  call.receiving = false;
  call.start();
  assert.deepEqual(call.pass(3_000), [[3_000, 'silent']]);
});

test('another selected path is not silent yet', () => {
  const call = new Call();
  call.receiving = false;
  call.pass(2_500);
  call.path = {...call.path, id: 'P2', bytesReceived: 0};
  assert.deepEqual(call.pass(3_000), []);
  assert.deepEqual(call.pass(500), [[6_000, 'silent']]);
});

test('nothing restarts while the signaling channel is lost', () => {
  const call = new Call();
  call.setSignaling(false);
  call.receiving = false;
  call.setState('failed');
  assert.deepEqual(call.pass(60_000), []);
  call.setSignaling(true);
  assert.deepEqual(call.restarts, [[60_000, 'signaling']]);
});

test('a relayed call restarts when the signaling channel works again, also without media', () => {
  const call = new Call();
  call.policy.remoteSending = false;
  call.receiving = false;
  call.setSignaling(false);
  call.pass(1_500);
  call.setSignaling(true);
  assert.deepEqual(call.restarts, [[1_500, 'signaling']]);
  assert.deepEqual(call.pass(60_000).length, 1);
});

for (const [name, state, restarts] of /** @type {[string, RTCPeerConnectionState, number][]} */ ([
  ['continues if it is connected', 'connected', 0],
  ['restarts if it is not connected', 'disconnected', 1],
])) {
  test(`a direct call whose signaling channel was lost ${name}`, () => {
    const call = new Call();
    call.path = {...call.path, relayed: false};
    call.pass(500);
    call.start();
    call.setState(state);
    call.setSignaling(false);
    call.pass(1_000);
    call.setSignaling(true);
    assert.equal(call.restarts.length, restarts);
  });
}

test('a call that was never connected does not restart because of the signaling channel', () => {
  const policy = new RestartPolicy();
  policy.setState('connecting', 0);
  policy.setSignaling(false);
  policy.setSignaling(true);
  assert.equal(policy.due(60_000), null);
});

test('a restart that began before the signaling channel was lost is repeated soon', () => {
  const call = new Call();
  call.receiving = false;
  call.setState('failed'); // the relay ends before the mailbox
  call.pass(500);
  call.setSignaling(false);
  call.pass(1_000);
  call.setSignaling(true);
  assert.deepEqual(call.restarts, [[0, 'failed'], [1_500, 'signaling']]);
});

test('restarts of a call that does not recover back off', () => {
  const call = new Call();
  call.receiving = false;
  call.setState('failed');
  call.pass(120_000);
  assert.deepEqual(call.restarts.map(([time]) => time), [0, 5_000, 15_000, 35_000, 55_000, 75_000, 95_000, 115_000]);
});

test('a missing answer is detected', () => {
  const call = new Call();
  call.receiving = false;
  call.setState('failed');
  call.setState('connecting');
  call.pass(20_000);
  assert.deepEqual(call.restarts, [[0, 'failed'], [5_000, 'unfinished'], [15_000, 'unfinished']]);
});

test('a first connection has no restart to finish', () => {
  const policy = new RestartPolicy();
  policy.setState('connecting', 0);
  for (let now = 0; now < 60_000; now += STEP) assert.equal(policy.due(now), null);
});

test('a signaling channel that fails repeatedly causes few restarts', () => {
  const call = new Call();
  for (let outage = 0; outage < 120; outage++) {
    call.setSignaling(false);
    call.setSignaling(true);
    call.pass(500);
  }
  assert.ok(call.restarts.length <= 7, `got ${call.restarts.length} restarts in a minute`);
});

test('after half a minute without a restart, the next one does not wait', () => {
  const call = new Call();
  for (let i = 0; i < 4; i++) {
    call.setState('failed');
    call.pass(5_000);
  }
  call.setState('connected');
  call.pass(30_000);
  call.start();
  call.setState('failed');
  assert.deepEqual(call.restarts, [[0, 'failed']]);
});

test('a request of the remote peer restarts a connected call', () => {
  const call = new Call();
  call.request();
  assert.deepEqual(call.restarts, [[0, 'requested']]);
});

test('a request during a restart is ignored, and one after it is not', () => {
  const call = new Call();
  call.setState('failed');
  call.setState('connecting');
  call.pass(1_000);
  call.request();
  call.setState('connected');
  assert.equal(call.pass(20_000).length, 1);
  call.request();
  assert.deepEqual(call.restarts.at(-1), [21_000, 'requested']);
});

test('a restart of the remote peer counts as a restart', () => {
  const call = new Call();
  call.receiving = false;
  call.setSignaling(false);
  call.pass(1_000);
  call.policy.setSignaling(true);
  call.policy.beginRemote(call.now);
  assert.deepEqual(call.pass(4_500), []);
  call.setState('failed');
  call.pass(1_000);
  assert.equal(call.restarts.length, 1, 'five seconds after the restart of the remote peer');
});

test('a requested restart does not count twice', () => {
  const call = new Call();
  call.receiving = false;
  call.pass(3_000);
  call.policy.beginRemote(call.now + 100); // the offer that the request has caused
  call.setState('failed');
  assert.deepEqual(call.pass(6_000), [[3_000, 'silent'], [8_500, 'failed']]);
});
