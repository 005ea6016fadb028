/** Tests evidence.js: the kinds of candidates and the errors, without addresses. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Evidence} from '../../../public/evidence.js';
import {ObservedPeer} from '../../../public/observed-peer.js';
import {FakeConnection} from '../lib/fakeconnection.js';

const host = 'candidate:1 1 udp 2122187007 192.0.2.2 5000 typ host generation 0';
const relay = 'candidate:2 1 UDP 1 203.0.113.9 5001 typ relay raddr 0.0.0.0 rport 0';
const tcp = 'candidate:3 1 tcp 1518154495 192.0.2.2 9 typ host tcptype active';

test('candidates are kept by type, those over TCP and others are not', () => {
  const evidence = new Evidence();
  for (const candidate of [host, relay, relay, tcp, '', 'x', 'candidate:1 1 udp 1 a 1 typ other']) evidence.addLocal(candidate);
  assert.deepEqual([...evidence.local], ['host', 'relay']);
});

test('remote candidates are in descriptions and in signals', () => {
  const evidence = new Evidence();
  evidence.addSignal({call: 'c', n: 1, description: {type: 'offer', sdp: `v=0\r\na=${host}\r\na=x\r\n`}, candidates: [{candidate: relay}]});
  evidence.addSignal({call: 'c', n: 2});
  evidence.addSignal(/** @type {any} */ ({description: {sdp: 1}, candidates: [{}, {candidate: null}]}));
  assert.deepEqual([...evidence.remote], ['host', 'relay']);
});

test('errors are kept once per kind and code, without the URL', () => {
  const evidence = new Evidence();
  for (let i = 0; i < 3; i++) evidence.addError({url: 'turn:192.0.2.1:3478?transport=udp', errorCode: 701});
  evidence.addError({url: null, errorCode: 701});
  evidence.addError({url: 'turns:example.org', errorCode: 486});
  assert.deepEqual(evidence.errors, [{kind: 'turn-udp', code: 701}, {kind: 'turn-tls', code: 486}]);
  for (let code = 0; code < 1000; code++) evidence.addError({url: 'stun:a', errorCode: code});
  assert.equal(evidence.errors.length, 32);
});

test('a peer collects evidence of both sides', async () => {
  const connection = new FakeConnection({});
  const connect = () => /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (connection));
  const peer = new ObservedPeer({call: 'c', polite: true, send: () => {}, connect});
  connection.emitCandidate(host);
  connection.dispatchEvent(Object.assign(new Event('icecandidateerror'), {url: 'stun:a', errorCode: 701}));
  await peer.receive({call: 'c', n: 1, candidates: [{candidate: relay}]});
  await peer.receive({call: 'other', n: 2, candidates: [{candidate: host}]});
  const {local, remote, errors} = peer.evidence;
  assert.deepEqual([[...local], [...remote], errors], [['host'], ['relay'], [{kind: 'stun', code: 701}]]);
  peer.close();
});
