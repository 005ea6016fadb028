/** Tests the ICE restarts of peer.js with fake connections, statistics and time. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {flushPromises, makePeer, track} from '../lib/peers.js';

/** @typedef {import('../lib/peers.js').Side} Side */

/** @param {number} count @returns {RTCIceServer[]} */
const servers = count => [{urls: 'turn:example.org', username: `u${count}`, credential: 'c'}];

/** Pair is a call with an in-memory signaling channel. The impolite peer sends video over a relay. */
class Pair {
  /** How often each side has fetched the ICE servers. */
  fetches = {impolite: 0, polite: 0};
  /** Whether signals are delivered. */
  online = true;
  /** The bytes that each check finds in addition. */
  bytesPerCheck = 100;
  /** The id of the selected candidate pair. */
  path = 'P1';
  #bytes = 1_000;

  /** @param {import('node:test').TestContext} t */
  constructor(t) {
    t.mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date'], now: 1_000_000});
    this.timers = t.mock.timers;
    this.impolite = makePeer(false, {fetchIceServers: async () => servers(++this.fetches.impolite)});
    this.polite = makePeer(true, {fetchIceServers: async () => servers(++this.fetches.polite)});
    t.after(() => this.close());
  }

  close() {
    this.impolite.peer.close();
    this.polite.peer.close();
  }

  async connect() {
    await this.impolite.peer.setTrack('video', track('video'));
    await this.deliver();
    this.setState('connected');
    await this.pass(2_000);
  }

  get sides() {
    return [this.impolite, this.polite];
  }

  /** @param {RTCPeerConnectionState} state */
  setState(state) {
    for (const {connection} of this.sides) connection.setConnectionState(state);
  }

  /** Delivers all signals. */
  async deliver() {
    await flushPromises();
    while (this.online && this.impolite.sent.length + this.polite.sent.length > 0) {
      for (const signal of this.impolite.sent.splice(0)) await this.polite.peer.receive(signal);
      for (const signal of this.polite.sent.splice(0)) await this.impolite.peer.receive(signal);
      await flushPromises();
    }
  }

  /** @param {number} milliseconds */
  async pass(milliseconds) {
    for (let time = 0; time < milliseconds; time += 100) {
      this.#bytes += this.bytesPerCheck;
      for (const {connection} of this.sides) connection.stats = this.#stats(connection === this.polite.connection);
      this.timers.tick(100);
      await this.deliver();
    }
  }

  /** @param {boolean} media whether the side receives media */
  #stats(media) {
    return [
      {id: 'T', type: 'transport', selectedCandidatePairId: this.path},
      {id: this.path, type: 'candidate-pair', localCandidateId: 'L', remoteCandidateId: 'R', bytesReceived: this.#bytes},
      {id: 'L', type: 'local-candidate', candidateType: 'relay'}, {id: 'R', type: 'remote-candidate', candidateType: 'relay'},
      {id: 'I', type: 'inbound-rtp', bytesReceived: media ? this.#bytes : 0},
    ];
  }

  /** The offers and answers that were applied, and the ICE restarts, of both sides. */
  get restarts() {
    return this.impolite.connection.restarts + this.polite.connection.restarts;
  }

  assertNegotiated() {
    const [a, b] = [this.impolite.connection, this.polite.connection];
    assert.deepEqual([a.signalingState, b.signalingState], ['stable', 'stable']);
    assert.equal(b.remoteDescription?.sdp, a.localDescription?.sdp, 'the polite peer has the last offer');
    assert.equal(a.remoteDescription?.sdp, b.localDescription?.sdp, 'the impolite peer has the answer to it');
    assert.deepEqual([...this.impolite.errors, ...this.polite.errors], []);
  }
}

test('a failed connection restarts once, and both sides use new servers', async t => {
  const pair = new Pair(t);
  await pair.connect();
  assert.deepEqual(pair.fetches, {impolite: 0, polite: 0});
  const {localDescription} = pair.impolite.connection;
  pair.setState('failed');
  await pair.deliver();
  assert.deepEqual([pair.impolite.connection.restarts, pair.polite.connection.restarts], [1, 0]);
  assert.notEqual(pair.impolite.connection.localDescription, localDescription);
  assert.deepEqual(pair.fetches, {impolite: 1, polite: 1});
  for (const {connection} of pair.sides) assert.deepEqual(connection.configuration.iceServers, servers(1));
  pair.assertNegotiated();
  pair.setState('connected');
  await pair.pass(60_000);
  assert.equal(pair.restarts, 1);
  assert.deepEqual(pair.polite.states, ['connected', 'reconnecting', 'connected']);
});

test('the polite peer notices a silent relay, and the impolite one restarts', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.bytesPerCheck = 0;
  await pair.pass(2_500);
  assert.equal(pair.restarts, 0);
  await pair.pass(1_000);
  assert.deepEqual([pair.impolite.connection.restarts, pair.polite.connection.restarts], [1, 0]);
  assert.deepEqual(pair.polite.states, ['connected', 'reconnecting'], 'although the browser says connected');
  assert.deepEqual(pair.impolite.states, ['connected'], 'the impolite peer receives no media');
  pair.assertNegotiated();
  pair.bytesPerCheck = 100;
  await pair.pass(60_000);
  assert.equal(pair.restarts, 1);
  assert.equal(pair.polite.peer.state, 'connected');
});

for (const [name, pause] of /** @type {[string, (video: MediaStreamTrack) => Partial<MediaStreamTrack>][]} */ ([
  ['muted by the system', () => ({muted: true})],
  ['disabled', () => ({enabled: false})],
  ['stopped', () => ({readyState: 'ended'})],
])) {
  test(`a track that is ${name} is not a dead relay`, async t => {
    const pair = new Pair(t);
    const video = track('video');
    await pair.impolite.peer.setTrack('video', video);
    await pair.deliver();
    pair.setState('connected');
    await pair.pass(2_000);
    Object.assign(video, pause(video));
    pair.bytesPerCheck = 0;
    await pair.pass(60_000);
    assert.equal(pair.restarts, 0);
    assert.equal(pair.polite.peer.state, 'connected');
    Object.assign(video, track('video'));
    await pair.pass(5_000);
    assert.equal(pair.restarts, 1, 'without media again');
  });
}

test('a call whose track is replaced with null is not a dead relay', async t => {
  const pair = new Pair(t);
  await pair.connect();
  await pair.impolite.peer.setTrack('video', null);
  pair.bytesPerCheck = 0;
  await pair.pass(60_000);
  assert.equal(pair.restarts, 0);
});

test('a peer announces a change of its media with one signal', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.online = false;
  await pair.pass(5_000);
  assert.deepEqual(pair.impolite.sent, []);
  await pair.impolite.peer.setTrack('video', null);
  await pair.pass(5_000);
  assert.deepEqual(pair.impolite.sent.map(({sending}) => sending), [false]);
});

test('a relayed call restarts when the signaling channel of both sides works again, with one offer', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.online = false;
  for (const {peer} of pair.sides) peer.setSignaling(false);
  pair.bytesPerCheck = 0;
  await pair.pass(10_000);
  pair.setState('failed');
  await pair.pass(10_000);
  assert.equal(pair.restarts, 0, 'while the channel is lost');
  pair.online = true;
  for (const {peer} of pair.sides) peer.setSignaling(true);
  await pair.deliver();
  assert.equal(pair.restarts, 1);
  pair.assertNegotiated();
  pair.bytesPerCheck = 100;
  pair.setState('connected');
  await pair.pass(60_000);
  assert.equal(pair.restarts, 1);
});

test('the request of a polite peer whose signaling channel was lost restarts ICE', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.polite.peer.setSignaling(false);
  pair.polite.peer.setSignaling(true);
  await pair.deliver();
  assert.deepEqual([pair.impolite.connection.restarts, pair.polite.connection.restarts], [1, 0]);
  pair.assertNegotiated();
});

test('an offer that was lost is rolled back and sent again', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.online = false;
  pair.setState('failed');
  await pair.deliver();
  assert.equal(pair.impolite.sent.splice(0).length, 1); // lost
  pair.polite.sent.splice(0);
  pair.online = true;
  await pair.pass(6_000);
  assert.equal(pair.impolite.connection.rollbacks, 1);
  assert.equal(pair.impolite.connection.restarts, 2);
  pair.assertNegotiated();
});

test('the answer to an offer that was rolled back is dropped', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.setState('failed');
  await flushPromises();
  await pair.polite.peer.receive(pair.impolite.sent.splice(0)[0]);
  const [request, late] = pair.polite.sent.splice(0);
  assert.deepEqual([request.restart, late.description?.type], [true, 'answer']);
  pair.online = false;
  await pair.pass(6_000); // the second attempt
  await pair.impolite.peer.receive(late);
  assert.equal(pair.impolite.connection.signalingState, 'have-local-offer');
  pair.online = true;
  await pair.deliver();
  pair.assertNegotiated();
});

test('both sides negotiate a track while ICE restarts', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.online = false;
  await pair.polite.peer.setTrack('audio', track('audio'));
  pair.impolite.connection.setConnectionState('failed');
  await flushPromises();
  assert.deepEqual([pair.impolite.sent, pair.polite.sent].map(signals => signals.map(({description}) => description?.type)), [['offer'], ['offer']]);
  pair.online = true;
  await pair.deliver();
  assert.equal(pair.polite.connection.rollbacks, 1);
  assert.deepEqual(pair.sides.map(({connection}) => connection.signalingState), ['stable', 'stable']);
  assert.deepEqual([...pair.impolite.errors, ...pair.polite.errors], []);
});

test('an offer that restarts nothing needs no new servers', async t => {
  const pair = new Pair(t);
  await pair.connect();
  await pair.impolite.peer.setTrack('audio', track('audio'));
  await pair.deliver();
  assert.deepEqual(pair.fetches, {impolite: 0, polite: 0});
  pair.assertNegotiated();
});

/** The changes of the video encoding of a pair. @param {Pair} pair */
const encodingChanges = ({impolite}) => impolite.connection.transceivers[0].sender.active;

test('video begins with a key frame as soon as a dead path is replaced', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.bytesPerCheck = 0;
  await pair.pass(4_000);
  assert.equal(pair.restarts, 1);
  assert.deepEqual(encodingChanges(pair), []);
  pair.path = 'P2';
  await pair.pass(100);
  assert.deepEqual(encodingChanges(pair), [false, true]);
  pair.bytesPerCheck = 100;
  await pair.pass(10_000);
  assert.equal(encodingChanges(pair).length, 2);
  assert.deepEqual(pair.impolite.errors, []);
});

test('a path that is replaced while it works needs no key frame', async t => {
  const pair = new Pair(t);
  await pair.connect();
  for (const {peer} of pair.sides) {
    peer.setSignaling(false);
    peer.setSignaling(true);
  }
  await pair.deliver();
  assert.equal(pair.restarts, 1);
  pair.path = 'P2';
  await pair.pass(10_000);
  assert.deepEqual(encodingChanges(pair), []);
});

test('the frequent checks end when no path replaces the dead one', async t => {
  const pair = new Pair(t);
  await pair.connect();
  pair.bytesPerCheck = 0;
  await pair.pass(4_000);
  const getStats = t.mock.method(pair.impolite.connection, 'getStats');
  pair.online = false;
  await pair.pass(4_500);
  const frequent = getStats.mock.callCount();
  assert.ok(frequent >= 40, `got ${frequent} checks`);
  pair.impolite.peer.setSignaling(false); // no further restart
  await pair.pass(1_000);
  getStats.mock.resetCalls();
  await pair.pass(10_000);
  const rare = getStats.mock.callCount();
  assert.ok(rare <= 21, `got ${rare} checks in 10 s`);
});

test('servers that cannot be fetched are an error, and the last ones stay', async t => {
  const pair = new Pair(t);
  const down = new Error('down');
  pair.impolite = makePeer(false, {fetchIceServers: () => Promise.reject(down)});
  await pair.connect();
  const before = pair.impolite.connection.configuration;
  pair.setState('failed');
  await pair.deliver();
  assert.deepEqual(pair.impolite.errors, [down]);
  assert.equal(pair.impolite.connection.configuration, before);
  assert.equal(pair.impolite.connection.restarts, 1);
});

test('a restart whose servers arrive after the next one is dropped', async t => {
  const pair = new Pair(t);
  /** @type {((servers: RTCIceServer[]) => void)[]} */
  const answers = [];
  pair.impolite = makePeer(false, {fetchIceServers: () => new Promise(resolve => answers.push(resolve))});
  await pair.connect();
  pair.setState('failed'); // the server is stopping, and its answer is late
  await pair.pass(500);
  for (const {peer} of pair.sides) peer.setSignaling(false);
  await pair.pass(1_000);
  for (const {peer} of pair.sides) peer.setSignaling(true);
  assert.equal(answers.length, 2);
  answers[1](servers(2));
  await pair.deliver();
  answers[0](servers(1));
  await pair.deliver();
  assert.equal(pair.restarts, 1);
  assert.deepEqual(pair.impolite.connection.configuration.iceServers, servers(2));
  pair.assertNegotiated();
});

test('a peer that is closed while its servers are fetched does not restart', async t => {
  const pair = new Pair(t);
  /** @type {(servers: RTCIceServer[]) => void} */
  let answer = () => {};
  pair.impolite = makePeer(false, {fetchIceServers: () => new Promise(resolve => { answer = resolve; })});
  await pair.connect();
  pair.setState('failed');
  pair.impolite.peer.close();
  answer(servers(1));
  await pair.deliver();
  assert.deepEqual(pair.impolite.errors, []);
  assert.equal(pair.impolite.connection.signalingState, 'stable');
});

test('statistics that cannot be read do not end the checks', async t => {
  const pair = new Pair(t);
  await pair.connect();
  const {connection} = pair.polite;
  const original = connection.getStats;
  connection.getStats = () => Promise.reject(new Error('no statistics'));
  await pair.pass(1_000);
  connection.getStats = original;
  pair.bytesPerCheck = 0;
  await pair.pass(4_000);
  assert.equal(pair.restarts, 1);
});

test('the kind of the path is reported once', async t => {
  const pair = new Pair(t);
  /** @type {string[]} */
  const kinds = [];
  pair.polite.peer.addEventListener('path', event => kinds.push(/** @type {CustomEvent} */ (event).detail));
  assert.equal(pair.polite.peer.relayed, false);
  await pair.connect();
  assert.deepEqual([kinds, pair.polite.peer.relayed], [['relayed'], true]);
});
