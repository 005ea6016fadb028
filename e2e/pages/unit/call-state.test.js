/** Tests call-state.js: the layout and the notice for each state of a two-way call. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {advance, noticeOf, pictureNote, soundNote, viewOf, withProblem, withRemote} from '../../../public/call-state.js';

/** @typedef {import('../../../public/call-state.js').CallState} CallState */

/** @type {CallState} */
const lobby = {state: 'waiting', live: false, remoteLive: false, connectedTo: '', endedBy: null};

for (const [name, changes, view, title] of /** @type {[string, Partial<CallState>, string, RegExp][]} */ ([
  ['opened', {}, 'lobby', /Ready/],
  ['the other page is open', {state: 'present'}, 'lobby', /is here/],
  ['the other page has joined', {state: 'present', remoteLive: true}, 'lobby', /waiting for you/],
  ['joined alone', {live: true}, 'waiting', /^Waiting/],
  ['joined first', {live: true, state: 'present'}, 'waiting', /is here/],
  ['connecting', {live: true, state: 'connecting', remoteLive: true}, 'waiting', /Connecting/],
  ['connected', {live: true, state: 'connected', connectedTo: 'page'}, 'call', /Connected/],
  ['reconnecting', {live: true, state: 'reconnecting', connectedTo: 'page'}, 'call', /lost/],
  ['a new call for a lost one', {live: true, state: 'connecting', connectedTo: 'page'}, 'call', /Connecting/],
  ['the other page is closed', {live: true, connectedTo: 'page'}, 'waiting', /has left/],
  ['hung up', {endedBy: 'us', state: 'present'}, 'ended', /has ended/],
  ['the other side has hung up', {endedBy: 'them', state: 'present'}, 'ended', /has hung up/],
  ['the other side calls again', {endedBy: 'us', state: 'present', remoteLive: true}, 'ended', /is calling/],
])) {
  test(name, () => {
    const call = {...lobby, ...changes};
    assert.equal(viewOf(call), view);
    assert.match(noticeOf(call).title, title);
  });
}

test('the other side hangs up, or only reloads', () => {
  const remotePage = 'page';
  const connected = advance({...lobby, live: true}, {state: 'connected', remoteLive: true, remotePage});
  assert.equal(connected.connectedTo, 'page');
  const ended = advance(connected, {state: 'present', remoteLive: false, remotePage});
  assert.deepEqual([ended.hungUp, ended.live, ended.connectedTo, ended.endedBy], [true, false, '', 'them']);
  const leaving = advance(connected, {state: 'connected', remoteLive: false, remotePage: ''});
  const left = advance(leaving, {state: 'waiting', remoteLive: false, remotePage: ''});
  assert.deepEqual([left.hungUp, left.live, left.connectedTo], [false, true, 'page']);
  const reloaded = advance(left, {state: 'present', remoteLive: false, remotePage: 'new page'});
  assert.deepEqual([reloaded.hungUp, reloaded.live], [false, true]);
  const waiting = advance({...lobby, live: true}, {state: 'present', remoteLive: false, remotePage});
  assert.equal(waiting.hungUp, false, 'it has not joined yet');
});

const failed = {notice: {tone: /** @type {const} */ ('bad'), title: 'No camera was found', hint: 'Plug one in.'}, urgent: false};

test('a problem of the own devices before and in the call', () => {
  const connected = {...lobby, live: true, state: /** @type {const} */ ('connected')};
  assert.equal(withProblem(noticeOf(lobby), lobby, failed), failed.notice);
  assert.deepEqual(withProblem(noticeOf(connected), connected, failed),
    {tone: 'busy', title: 'Connected', hint: 'No camera was found. Plug one in.'});
  assert.equal(withProblem(noticeOf(connected), connected, {...failed, urgent: true}), failed.notice);
  const ended = {...lobby, endedBy: /** @type {const} */ ('us')};
  assert.match(withProblem(noticeOf(ended), ended, failed).title, /has ended/);
});

test('what the other side says of its tracks', () => {
  const connected = {...lobby, live: true, state: /** @type {const} */ ('connected')};
  const notice = noticeOf(connected);
  assert.equal(pictureNote({video: 'screen', audio: 'on'}), null);
  assert.match(pictureNote({video: 'interrupted', audio: 'on'}) ?? '', /paused its camera/);
  assert.match(soundNote({video: 'on', audio: 'off'}) ?? '', /microphone is off/);
  assert.equal(withRemote(notice, connected, {video: 'on', audio: 'on'}), notice);
  assert.equal(withRemote(notice, connected, {video: 'off', audio: 'off'}).hint, 'The other camera is off. The other microphone is off.');
  assert.equal(withRemote(notice, connected, {video: 'on', audio: 'interrupted'}).hint, 'The other device has paused its microphone.');
});
