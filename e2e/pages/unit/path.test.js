/** Tests path.js with statistics in the form of Chromium and Firefox. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {selectedPath} from '../../../public/path.js';

/** @param {object[]} entries @returns {RTCStatsReport} */
const report = entries => /** @type {any} */ (new Map(entries.map(entry => [/** @type {any} */ (entry).id, entry])));

/** @param {string} local @param {string} remote the candidate types */
const selected = (local, remote) => [
  {type: 'transport', id: 'T', selectedCandidatePairId: 'P2'},
  {type: 'candidate-pair', id: 'P1', localCandidateId: 'R', remoteCandidateId: 'R', bytesReceived: 1_000_000},
  {type: 'candidate-pair', id: 'P2', localCandidateId: 'L', remoteCandidateId: 'R', bytesReceived: 500},
  {type: 'local-candidate', id: 'L', candidateType: local},
  {type: 'remote-candidate', id: 'R', candidateType: remote},
];

for (const [local, remote, relayed] of /** @type {[string, string, boolean][]} */ ([
  ['host', 'host', false], ['srflx', 'prflx', false], ['relay', 'relay', true], ['relay', 'host', true], ['host', 'relay', true],
])) {
  test(`a path from ${local} to ${remote} is ${relayed ? 'relayed' : 'direct'}`, () => {
    assert.deepEqual(selectedPath(report(selected(local, remote))), {id: 'P2', relayed, bytesReceived: 500, mediaReceived: false});
  });
}

test('media counts when it was received, not when it is expected', () => {
  const media = (/** @type {number} */ bytesReceived) => ({type: 'inbound-rtp', id: 'I', bytesReceived});
  assert.equal(selectedPath(report([...selected('relay', 'relay'), media(0)]))?.mediaReceived, false);
  assert.equal(selectedPath(report([...selected('relay', 'relay'), media(1)]))?.mediaReceived, true);
});

test('several transports are one path', () => {
  const second = [{type: 'transport', id: 'U', selectedCandidatePairId: 'P3'}, {type: 'candidate-pair', id: 'P3', bytesReceived: 70}];
  assert.deepEqual(selectedPath(report([...selected('relay', 'relay'), ...second])), {id: 'P2,P3', relayed: true, bytesReceived: 570, mediaReceived: false});
});

test('without a selected pair there is no path', () => {
  for (const entries of [[], [{type: 'transport', id: 'T'}], [{type: 'transport', id: 'T', selectedCandidatePairId: 'gone'}]]) {
    assert.equal(selectedPath(report(entries)), null);
  }
});
