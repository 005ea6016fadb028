/** Tests self-test.js: the checks, their rows and their order. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {checkBrowser, gradeServers, judgeServer, mailboxError, overall, row, rowOf, serverRows} from '../../../public/self-test.js';
import * as strings from '../../../public/strings.js';

/**
 * @typedef {import('../../../public/diagnosis.js').ProbeResult} ProbeResult
 * @typedef {import('../../../public/ice-urls.js').UrlKind} UrlKind
 */

/**
 * @param {UrlKind} kind
 * @param {ProbeResult['problem']} problem
 * @returns {ProbeResult}
 */
function result(kind, problem, errorCode = 0) {
  return {kind, number: 1, ok: problem === '', answered: problem === '' || problem === 'no-path', ms: 5, problem, errorCode};
}

test('each finding has a sentence, and advice unless there is nothing to do yet', () => {
  for (const [name, finding] of Object.entries(strings.test.findings)) {
    assert.match(finding.text, /^[A-Z].*\.$/, name);
    if (['waiting', 'running', 'mediaIdle', 'cameraStarting'].includes(name)) continue;
    assert.ok('advice' in finding && /^[A-Z].*\.$/.test(finding.advice), name);
  }
});

for (const [scope, finding] of /** @type {[any, string][]} */ ([
  [{isSecureContext: true, RTCPeerConnection: class {}, navigator: {mediaDevices: {}}}, 'browserOk'],
  [{isSecureContext: true, RTCPeerConnection: class {}, navigator: {}}, 'browserNoMedia'],
  [{isSecureContext: true, navigator: {mediaDevices: {}}}, 'browserNoCalls'],
  [{isSecureContext: false, navigator: {}}, 'browserInsecure'],
])) {
  test(finding, () => assert.equal(checkBrowser(scope).finding, finding));
}

for (const [name, response, ms, finding] of /** @type {[string, Response, number, string][]} */ ([
  ['a list', Response.json({iceServers: []}), 10, 'serverOk'],
  ['a list, late', Response.json({iceServers: []}), 3_000, 'serverSlow'],
  ['a login page', new Response('<html>'), 10, 'serverIntercepted'],
  ['other JSON', Response.json([]), 10, 'serverIntercepted'],
  ['429', Response.json({}, {status: 429}), 10, 'serverLimited'],
  ['503', Response.json({}, {status: 503}), 10, 'serverBusy'],
  ['403', Response.json({}, {status: 403}), 10, 'serverRefused'],
])) {
  test(`the server answers with ${name}: ${finding}`, async () => assert.equal((await judgeServer(response, ms)).finding, finding));
}

for (const [code, status, finding] of /** @type {[string, number, string][]} */ ([
  ['network', 0, 'mailboxUnreachable'], ['intercepted', 200, 'mailboxIntercepted'], ['rate-limited', 429, 'mailboxLimited'],
  ['stopping', 503, 'mailboxBusy'], ['refused', 403, 'mailboxRefused'], ['unreadable', 0, 'mailboxRefused'],
])) {
  test(`the mailbox fails with ${code}: ${finding}`, () => assert.equal(mailboxError({code, status}).finding, finding));
}

for (const [name, list, turnOff, want] of /** @type {[string, [UrlKind, number][], any, string[]][]} */ ([
  ['no servers', [], '', ['stun warning stunMissing', 'turn-udp failed turnMissing', 'turn-tls failed turnMissing']],
  ['STUN alone', [['stun', 1]], '', ['stun running running', 'turn-udp failed turnMissing', 'turn-tls failed turnMissing']],
  ['TURN over UDP', [['stun', 1], ['turn-udp', 1]], '', ['stun running running', 'turn-udp running running', 'turn-tls warning tlsMissing']],
  ['all, one twice', [['turn-tls', 1], ['turn-udp', 1], ['turn-udp', 2], ['turn-tcp', 1]], '',
    ['stun warning stunMissing', 'turn-udp running running', 'turn-udp running running', 'turn-tcp running running', 'turn-tls running running']],
  ['month used', [['stun', 1]], 'month-used', ['stun running running', 'turn-udp failed turnMonthUsed', 'turn-tls failed turnMonthUsed']],
  ['other site', [], 'other-origin', ['stun warning stunMissing', 'turn-udp failed turnOtherOrigin', 'turn-tls failed turnOtherOrigin']],
])) {
  test(`rows: ${name}`, () => {
    const rows = serverRows(list.map(([kind, number]) => ({kind, number})), turnOff);
    assert.deepEqual(rows.map(({check, state, finding}) => `${check} ${state} ${finding}`), want);
  });
}

for (const [kind, problem, code, want] of /** @type {[UrlKind, ProbeResult['problem'], number, string][]} */ ([
  ['stun', '', 701, 'ok stunOk 0'], ['stun', 'unreachable', 701, 'failed stunUnreachable 701'], ['stun', 'blocked', 0, 'failed stunBlocked 0'],
  ['stun', 'rejected', 0, 'failed stunRejected 0'], ['stun', 'refused', 400, 'failed stunRefused 400'],
  ['turn-udp', '', 0, 'ok turnOk 0'], ['turn-udp', 'unreachable', 0, 'failed turnUnreachable 0'], ['turn-tls', 'refused', 401, 'failed turnRefused 401'],
  ['turn-tls', 'refused', 486, 'failed turnFull 486'], ['turn-tls', 'no-path', 0, 'failed turnNoPath 0'], ['turn-tcp', 'cancelled', 0, 'failed cancelled 0'],
])) {
  test(`${kind} ${problem || 'ok'}: ${want}`, () => {
    const {state, finding, code: shown} = rowOf(result(kind, problem, code));
    assert.equal(`${state} ${finding} ${shown}`, want);
  });
}

for (const [name, results, want] of /** @type {[string, ProbeResult[], string[]][]} */ ([
  ['all work', [result('stun', ''), result('turn-udp', '')], ['ok stunOk', 'ok turnOk']],
  ['UDP is blocked, TLS works', [result('stun', 'unreachable'), result('turn-udp', 'unreachable'), result('turn-tls', '')],
    ['warning stunUnreachable', 'warning udpUnreachable', 'ok turnOk']],
  ['TLS is blocked, UDP works', [result('turn-udp', ''), result('turn-tls', 'unreachable')], ['ok turnOk', 'warning turnUnreachable']],
  ['no relay works', [result('stun', ''), result('turn-udp', 'unreachable'), result('turn-tls', 'refused', 401)],
    ['ok stunOk', 'failed turnUnreachable', 'failed turnRefused']],
  ['STUN alone fails', [result('stun', 'unreachable')], ['warning stunUnreachable']],
])) {
  test(`grades: ${name}`, () => assert.deepEqual(gradeServers(results).map(({state, finding}) => `${state} ${finding}`), want));
}

for (const [states, want] of /** @type {[import('../../../public/self-test.js').RowState[], string][]} */ ([
  [['ok', 'ok'], 'ok'], [['ok', 'warning'], 'warning'], [['ok', 'skipped'], 'warning'], [['warning', 'failed', 'skipped'], 'failed'], [['failed', 'running'], 'running'],
  [['waiting', 'ok'], 'running'], [[], 'ok'],
])) {
  test(`overall: ${states.join(', ')} is ${want}`, () => assert.equal(overall(states.map(state => row('stun', state, 'running'))), want));
}
