/**
 * Derives from the state of a two-way call what the page shows. This module does
 * not use the DOM.
 */

import * as strings from './strings.js';

const texts = strings.call;

/**
 * @typedef {import('./session.js').EndpointState} EndpointState
 * @typedef {import('./status.js').Notice} Notice
 * @typedef {'lobby'|'waiting'|'call'|'ended'} View
 *
 * @typedef {object} CallState
 * @property {EndpointState} state
 * @property {boolean} live whether this page has joined the call
 * @property {boolean} remoteLive whether the other page has joined it
 * @property {string} connectedTo the id of the page that this one was connected to since it joined, '' for none
 * @property {'us'|'them'|null} endedBy who hung up last, until this page joins again
 *
 * @typedef {import('./session.js').Media} Media what the other side says of its tracks
 */

/**
 * Returns the layout of the page.
 * @param {CallState} call
 * @returns {View}
 */
export function viewOf({state, live, connectedTo, endedBy}) {
  if (!live) return endedBy ? 'ended' : 'lobby';
  const connected = state === 'connected' || state === 'reconnecting';
  return connected || (connectedTo !== '' && state === 'connecting') ? 'call' : 'waiting';
}

/**
 * Returns the notice for a call without errors.
 * @param {CallState} call
 * @returns {Notice}
 */
export function noticeOf(call) {
  if (call.live) return liveNotice(call);
  if (call.endedBy) return endedNotice(call);
  if (call.remoteLive) return {tone: 'busy', title: texts.otherWaits, hint: texts.otherWaitsHint};
  if (call.state === 'present') return {tone: 'calm', title: texts.otherHere, hint: texts.otherHereHint};
  return {tone: 'calm', title: texts.ready, hint: texts.readyHint};
}

/**
 * @param {CallState} call
 * @returns {Notice}
 */
function endedNotice({endedBy, remoteLive}) {
  if (remoteLive) return {tone: 'busy', title: texts.otherCalls, hint: texts.otherCallsHint};
  return {tone: 'calm', title: endedBy === 'us' ? texts.ended : texts.otherHungUp, hint: texts.endedHint};
}

/**
 * @param {CallState} call
 * @returns {Notice}
 */
function liveNotice({state, connectedTo}) {
  switch (state) {
    case 'connected': return {tone: 'good', title: texts.connected, hint: texts.connectedHint};
    case 'reconnecting': return {tone: 'busy', title: texts.reconnecting, hint: texts.reconnectingHint};
    case 'connecting': return {tone: 'busy', title: texts.connecting, hint: texts.connectingHint};
    case 'present': return {tone: 'busy', title: texts.otherHere, hint: texts.otherJoinsHint};
    case 'waiting': return connectedTo ? {tone: 'busy', title: texts.otherLeft, hint: texts.otherLeftHint} :
      {tone: 'busy', title: texts.waiting, hint: texts.waitingHint};
  }
}

/**
 * Adds a problem of the own camera or microphone to the notice of the call. An
 * urgent one takes its place, and so does any before this page has joined.
 * @param {Notice} notice
 * @param {CallState} call
 * @param {{notice: Notice, urgent: boolean} | null} problem
 * @returns {Notice}
 */
export function withProblem(notice, {live, endedBy}, problem) {
  if (!problem || (endedBy && !live)) return notice;
  if (!live || problem.urgent) return problem.notice;
  const {title, hint = ''} = problem.notice;
  return {...notice, tone: 'busy', hint: texts.sentences({first: title, second: hint})};
}

/**
 * Adds what the other side says of its tracks, for those who cannot see it.
 * @param {Notice} notice
 * @param {CallState} call
 * @param {Media} media
 * @returns {Notice}
 */
export function withRemote(notice, {state}, media) {
  const [first, second] = [pictureNote(media), soundNote(media)].filter(note => note !== null);
  if (state !== 'connected' || notice.tone !== 'good' || !first) return notice;
  return {...notice, hint: second ? texts.sentences({first, second: `${second}.`}) : `${first}.`};
}

/**
 * Returns what to say in place of the other side's picture, or null while there is one.
 * @param {Media} media
 */
export function pictureNote({video}) {
  switch (video) {
    case 'off': return texts.otherCameraOff;
    case 'interrupted': return texts.otherCameraPaused;
    case 'ended': return texts.otherCameraStopped;
    default: return null;
  }
}

/**
 * Returns what to say about the other side's sound, or null if nothing is wrong.
 * @param {Media} media
 */
export function soundNote({audio}) {
  switch (audio) {
    case 'off': return texts.otherMicrophoneOff;
    case 'interrupted': return texts.otherMicrophonePaused;
    case 'ended': return texts.otherMicrophoneStopped;
    default: return null;
  }
}

/**
 * Returns the state of a call after an event of the endpoint. The other side has
 * hung up if the page that was connected is still open, but not in the call. A page
 * that has only reloaded is another page.
 * @param {CallState} call the state before
 * @param {{state: EndpointState, remoteLive: boolean, remotePage: string}} now
 * @returns {CallState & {hungUp: boolean}}
 */
export function advance(call, {state, remoteLive, remotePage}) {
  const hungUp = call.live && call.connectedTo !== '' && call.connectedTo === remotePage && state === 'present' && !remoteLive;
  const connectedTo = call.live && state === 'connected' && remotePage ? remotePage : call.connectedTo;
  return hungUp ? {...call, state, remoteLive, hungUp, live: false, connectedTo: '', endedBy: 'them'} :
    {...call, state, remoteLive, hungUp, connectedTo};
}
