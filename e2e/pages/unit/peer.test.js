/** Tests peer.js with an in-memory signaling channel and fake connections. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {WatchedPeer as Peer} from '../../../public/watched-peer.js';
import {FakeConnection} from '../lib/fakeconnection.js';
import {exchange, flushPromises, makePeer, track} from '../lib/peers.js';

test('servers that the browser rejects are left out', t => {
  t.mock.method(console, 'warn', () => {});
  const peer = new Peer({
    call: 'call 1', polite: true, send: () => {}, iceServers: [{urls: 'stun:h:99999'}, {urls: 'stun:example.org'}],
    connect: configuration => {
      if (configuration.iceServers?.some(({urls}) => urls === 'stun:h:99999')) throw new SyntaxError('invalid port');
      return /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (new FakeConnection(configuration)));
    },
  });
  assert.deepEqual(peer.rejectedServers, ['stun:h:99999']);
});

test('a relay-only peer uses TURN servers only, also after its list has changed', async () => {
  const fetchIceServers = async () => [{urls: 'turn:example.org', username: 'u', credential: 'new'}];
  const [a, b] = [makePeer(false, {iceTransportPolicy: 'relay', fetchIceServers}), makePeer(true)];
  assert.equal(a.connection.configuration.iceTransportPolicy, 'relay');
  await a.peer.setTrack('video', track('video'));
  await exchange(a, b);
  await a.peer.receive({call: 'call 1', n: 9, restart: true});
  await flushPromises();
  assert.deepEqual(a.connection.configuration, {iceServers: await fetchIceServers(), iceTransportPolicy: 'relay'});
});

test('an offer is answered', async () => {
  const [a, b] = [makePeer(false), makePeer(true)];
  assert.deepEqual(a.connection.configuration, {iceServers: [{urls: 'stun:example.org'}], iceTransportPolicy: undefined});
  await a.peer.setTrack('video', track('video'));
  await a.peer.setTrack('audio', null);
  await exchange(a, b);
  assert.equal(a.connection.remoteDescription?.sdp, `answer to ${a.connection.localDescription?.sdp}`);
  assert.equal(a.connection.signalingState, 'stable');
  assert.deepEqual([...a.errors, ...b.errors], []);
});

test('on an offer collision, the polite peer rolls back', async () => {
  const [a, b] = [makePeer(false), makePeer(true)];
  await a.peer.setTrack('video', track('video'));
  await b.peer.setTrack('audio', track('audio'));
  await flushPromises();
  assert.deepEqual([a.sent[0].description?.type, b.sent[0].description?.type], ['offer', 'offer']);
  await exchange(a, b);
  assert.equal(b.connection.rollbacks, 1);
  assert.equal(a.connection.rollbacks, 0);
  assert.deepEqual([a.connection.signalingState, b.connection.signalingState], ['stable', 'stable']);
  assert.equal(b.connection.localDescription?.type, 'offer', 'the polite peer sends its offer again');
  assert.deepEqual([...a.errors, ...b.errors], []);
});

test('the queue of candidates is bounded', async () => {
  const b = makePeer(true);
  for (let n = 1; n <= 20; n++) await b.peer.receive({call: 'call 1', n, candidates: Array.from({length: 20}, (_, i) => ({candidate: `${n} ${i}`}))});
  await b.peer.receive({call: 'call 1', n: 99, description: {type: 'offer', sdp: 'offer'}});
  await flushPromises();
  assert.equal(b.connection.candidates.length, 256);
});

test('candidates are queued until there is a description', async () => {
  const b = makePeer(true);
  await b.peer.receive({call: 'call 1', n: 1, candidates: [{candidate: 'early'}]});
  assert.deepEqual(b.connection.candidates, []);
  await b.peer.receive({call: 'call 1', n: 2, description: {type: 'offer', sdp: 'x'}, candidates: [{candidate: 'late'}]});
  assert.deepEqual(b.connection.candidates, [{candidate: 'early'}, {candidate: 'late'}]);
  assert.deepEqual(b.errors, []);
});

test('invalid candidates are an error, except those of an ignored offer', async () => {
  const a = makePeer(false);
  await a.peer.setTrack('video', track('video'));
  await flushPromises();
  await a.peer.receive({call: 'call 1', n: 1, description: {type: 'offer', sdp: 'ignored'}});
  await a.peer.receive({call: 'call 1', n: 2, candidates: [{candidate: 'bad'}]});
  assert.deepEqual(a.errors, []);
  await a.peer.receive({call: 'call 1', n: 3, description: {type: 'answer', sdp: 'x'}});
  await a.peer.receive({call: 'call 1', n: 4, candidates: [{candidate: 'bad'}, {candidate: 'good'}]});
  assert.equal(a.errors.length, 1);
  assert.deepEqual(a.connection.candidates, [{candidate: 'good'}]);
});

test('candidates are sent in a batch, 100 ms after the first', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  const a = makePeer(false);
  a.connection.emitCandidate('one');
  t.mock.timers.tick(60);
  a.connection.emitCandidate('two');
  a.connection.emitCandidate(''); // the end of gathering
  t.mock.timers.tick(39);
  assert.equal(a.sent.length, 0);
  t.mock.timers.tick(1);
  assert.deepEqual(a.sent, [{call: 'call 1', n: 1, sending: false, candidates: [{candidate: 'one'}, {candidate: 'two'}]}]);
  a.connection.emitCandidate('three');
  t.mock.timers.tick(100);
  assert.deepEqual(a.sent[1], {call: 'call 1', n: 2, sending: false, candidates: [{candidate: 'three'}]});
});

test('pending candidates are sent before a new description', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  const a = makePeer(false);
  await a.peer.setTrack('video', track('video'));
  await flushPromises();
  a.connection.emitCandidate('one');
  await a.peer.receive({call: 'call 1', n: 1, description: {type: 'answer', sdp: 'x'}});
  a.connection.restartIce();
  await flushPromises();
  assert.deepEqual(a.sent.map(({description}) => description?.type), ['offer', undefined, 'offer']);
});

test('an offer that arrives while a local offer is created is a collision', async () => {
  const a = makePeer(false);
  void a.peer.setTrack('video', track('video'));
  await a.peer.receive({call: 'call 1', n: 1, description: {type: 'offer', sdp: 'x'}});
  await flushPromises();
  assert.equal(a.connection.remoteDescription, null, 'the impolite peer ignores the offer');
  assert.deepEqual(a.sent.map(({description}) => description?.type), ['offer']);
});

test('signals of another call are dropped', async () => {
  const b = makePeer(true, {call: 'call 2'});
  await b.peer.receive({call: 'call 1', n: 1, description: {type: 'offer', sdp: 'stale'}});
  assert.equal(b.connection.remoteDescription, null);
  assert.equal(b.sent.length, 0);
});

test('duplicate and late signals are dropped', async () => {
  const b = makePeer(true);
  const offer = {call: 'call 1', n: 2, description: {type: /** @type {const} */ ('offer'), sdp: 'x'}};
  await b.peer.receive(offer);
  await b.peer.receive(offer);
  await b.peer.receive({...offer, n: 1});
  assert.equal(b.sent.length, 1, 'answers');
});

test('an answer to an offer that was rolled back is dropped', async () => {
  const a = makePeer(false);
  await a.peer.receive({call: 'call 1', n: 1, description: {type: 'answer', sdp: 'x'}});
  assert.deepEqual(a.errors, []);
});

test('only the first track of a kind needs a negotiation', async () => {
  const a = makePeer(false);
  await a.peer.setTrack('video', track('video'));
  await flushPromises();
  const other = track('video');
  await a.peer.setTrack('video', other);
  await flushPromises();
  assert.equal(a.sent.length, 1);
  assert.equal(a.connection.transceivers[0].sender.track, other);
});

test('a closed peer sends nothing, handles nothing and does not restart ICE', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date']});
  const a = makePeer(false);
  await a.peer.setTrack('video', track('video'));
  a.connection.emitCandidate('one');
  a.connection.setConnectionState('disconnected');
  a.peer.close();
  await flushPromises();
  await a.peer.receive({call: 'call 1', n: 1, description: {type: 'offer', sdp: 'x'}});
  t.mock.timers.tick(10_000);
  assert.equal(a.connection.restarts, 0);
  assert.equal(a.connection.closed, true);
  assert.equal(a.peer.state, 'closed');
  assert.equal(a.connection.remoteDescription, null);
  assert.deepEqual(a.sent, []);
});

test('remote tracks are dispatched', () => {
  const b = makePeer(true);
  /** @type {any} */
  let got;
  b.peer.addEventListener('track', event => { got = /** @type {CustomEvent} */ (event).detail; });
  b.connection.dispatchEvent(Object.assign(new Event('track'), {track: track('video'), streams: []}));
  assert.deepEqual(got, {track: track('video'), streams: []});
});

test('in a two-way call, one negotiation carries the tracks of both peers', async () => {
  const [a, b] = [makePeer(false, {twoWay: true}), makePeer(true, {twoWay: true})];
  b.connection.remoteKinds = ['audio', 'video'];
  const own = {audio: track('audio'), video: track('video')};
  await a.peer.setTrack('audio', null);
  await a.peer.setTrack('video', track('video'));
  await b.peer.setTrack('audio', own.audio);
  await b.peer.setTrack('video', null);
  await flushPromises();
  const sent = [a.sent, b.sent].map(signals => signals.map(({description}) => description?.type));
  assert.deepEqual(sent, [['offer'], []], 'the polite peer waits for the offer');
  await exchange(a, b);
  for (const {connection} of [a, b]) assert.deepEqual(connection.transceivers.map(({direction}) => direction), ['sendrecv', 'sendrecv']);
  assert.deepEqual(b.connection.transceivers.map(({sender}) => sender.track), [own.audio, null]);
  await b.peer.setTrack('video', own.video);
  assert.equal(b.connection.transceivers[1].sender.track, own.video, 'without another negotiation');
  assert.deepEqual([...a.sent, ...b.sent, ...a.errors, ...b.errors], []);
});
