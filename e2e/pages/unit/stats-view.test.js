/** Tests what stats-view.js reads from the statistics of a connection. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {describe, summarize} from '../../../public/stats-view.js';

/** @param {Record<string, any>} [changes] */
function report(changes = {}) {
  const entries = {
    transport: {type: 'transport', selectedCandidatePairId: 'pair'},
    pair: {type: 'candidate-pair', localCandidateId: 'local', remoteCandidateId: 'remote', currentRoundTripTime: 0.0426},
    local: {type: 'local-candidate', candidateType: 'host'},
    remote: {type: 'remote-candidate', candidateType: 'srflx'},
    video: {type: 'inbound-rtp', kind: 'video', frameWidth: 1280, frameHeight: 720, framesPerSecond: 29.6, packetsLost: 10, packetsReceived: 990},
    audio: {type: 'inbound-rtp', kind: 'audio', packetsLost: 0, packetsReceived: 1000},
    out: {type: 'outbound-rtp', kind: 'video', frameWidth: 640, frameHeight: 480, framesPerSecond: 15},
    lost: {type: 'remote-inbound-rtp', kind: 'video', fractionLost: 0.125},
    ...changes,
  };
  return new Map(Object.entries(entries).map(([id, entry]) => [id, {id, ...entry}]));
}

test('a direct call', () => {
  const summary = summarize(report());
  assert.deepEqual([summary.path, summary.protocol, summary.received, summary.sent, summary.lossIn, summary.lossOut],
    ['direct', '', {width: 1280, height: 720, rate: 30}, {width: 640, height: 480, rate: 15}, null, 0.125]);
  assert.deepEqual(Object.fromEntries(describe(summary)), {
    'Path': 'direct', 'Round trip': '43 ms', 'Picture received': '1280 × 720, 30 fps', 'Picture sent': '640 × 480, 15 fps',
    'Loss receiving': 'not known yet', 'Loss sending': '13 %',
  });
});

test('a relayed call names the protocol of its relay', () => {
  const summary = summarize(report({local: {type: 'local-candidate', candidateType: 'relay', relayProtocol: 'tls'}}));
  assert.equal(Object.fromEntries(describe(summary)).Path, 'relayed over TLS');
  const byTheOther = summarize(report({remote: {type: 'remote-candidate', candidateType: 'relay'}}));
  assert.equal(Object.fromEntries(describe(byTheOther)).Path, 'relayed');
});

test('the loss since the previous report', () => {
  const first = summarize(report());
  const video = {type: 'inbound-rtp', kind: 'video', packetsLost: 15, packetsReceived: 1085};
  const second = summarize(report({video}), first);
  assert.equal(second.lossIn, 0.05);
  assert.equal(summarize(report({video}), second).lossIn, null, 'no packet since');
  assert.equal(Object.fromEntries(describe({...second, lossIn: 0.004}))['Loss receiving'], '0.4 %');
});

test('a connection that has just begun', () => {
  const summary = summarize(new Map());
  assert.deepEqual(describe(summary).map(([, value]) => value),
    ['not known yet', 'not known yet', 'none', 'none', 'not known yet', 'not known yet']);
});
