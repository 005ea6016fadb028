/**
 * The camera page. The user chooses the devices and starts the call.
 */

import {DeviceList, NONE, SCREEN, capture, captureNotice} from './devices.js';
import {WakeLock, bindStatus, find, joinRoom} from './page.js';
import {SendingEndpoint} from './session.js';

/**
 * @typedef {import('./status.js').Notice} Notice
 * @typedef {import('./devices.js').Kind} Kind
 */

/** @type {Record<import('./session.js').EndpointState, Notice>} the notices before start */
const idleNotices = {
  waiting: {tone: 'calm', title: 'Ready when you are', hint: 'Choose a camera and press start. The other screen can join before or after.'},
  present: {tone: 'calm', title: 'The other screen is waiting', hint: 'Choose a camera and press start.'},
  connecting: {tone: 'busy', title: 'Connecting'},
  connected: {tone: 'good', title: 'Connected'},
  reconnecting: {tone: 'busy', title: 'Reconnecting'},
};

/** @type {Record<import('./session.js').EndpointState, Notice>} the notices after start */
const liveNotices = {
  waiting: {tone: 'busy', title: 'Waiting for the other screen', hint: 'Open the link there, or scan the code with it.'},
  present: {tone: 'busy', title: 'Connecting', hint: 'The other screen has joined.'},
  connecting: {tone: 'busy', title: 'Connecting', hint: 'The other screen has joined.'},
  connected: {tone: 'good', title: 'Connected', hint: 'The other screen shows your camera.'},
  reconnecting: {tone: 'busy', title: 'Connection lost, reconnecting', hint: 'The call resumes automatically.'},
};

const preview = find('#preview', HTMLVideoElement);
const startButton = find('#start', HTMLButtonElement);
const stopButton = find('#stop', HTMLButtonElement);
const takeOver = find('#take-over', HTMLButtonElement);
const lists = {
  video: new DeviceList(find('#camera', HTMLSelectElement), 'video'),
  audio: new DeviceList(find('#microphone', HTMLSelectElement), 'audio'),
};
/** @type {Record<Kind, MediaStreamTrack | null>} */
const tracks = {video: null, audio: null};
const wakeLock = new WakeLock();
/** @type {Record<Kind, string | undefined>} the choice that each track was captured for */
const capturedChoice = {video: undefined, audio: undefined};
/** @type {Record<Kind, Notice | null>} why capture failed, by kind */
const captureErrors = {video: null, audio: null};
/** Replaces the hint of the notice until the next capture, '' for none. */
let hintOverride = '';
/** Serializes the captures. */
let captureQueue = Promise.resolve(true);

const context = await joinRoom('send');
if (context) await run(context);

/** @param {import('./page.js').Context} context */
async function run(context) {
  const endpoint = new SendingEndpoint(context);
  const refresh = bindStatus(context, endpoint, () =>
    captureErrors.video ?? withHints((endpoint.live ? liveNotices : idleNotices)[endpoint.state]));
  endpoint.addEventListener('state', () => wakeLock.set(endpoint.state === 'connected'));
  const stop = () => stopAll(endpoint, refresh);
  context.inbox.addEventListener('superseded', stop);
  endpoint.addEventListener('error', () => endpoint.error?.kind === 'signal' && stop());
  startButton.addEventListener('click', () => start(endpoint, refresh));
  stopButton.addEventListener('click', stop);
  takeOver.addEventListener('click', () => endpoint.open());
  for (const kind of /** @type {Kind[]} */ (['video', 'audio'])) {
    find(kind === 'video' ? '#camera' : '#microphone', HTMLSelectElement)
      .addEventListener('change', () => onChoice(endpoint, kind, refresh));
  }
  navigator.mediaDevices.addEventListener('devicechange', fillDeviceLists);
  await fillDeviceLists();
  startButton.disabled = false;
  refresh();
  endpoint.open();
}

/**
 * Replaces the hint of a notice with a remark that is not an error. A call
 * without sound continues.
 * @param {Notice} notice
 * @returns {Notice}
 */
function withHints(notice) {
  if (hintOverride) return {...notice, hint: hintOverride};
  return captureErrors.audio ? {...notice, hint: `Without sound: ${captureErrors.audio.title.toLowerCase()}.`} : notice;
}

async function fillDeviceLists() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  lists.video.fill(devices);
  lists.audio.fill(devices);
}

/**
 * @param {SendingEndpoint} endpoint
 * @param {() => void} refresh
 */
async function start(endpoint, refresh) {
  const hadFocus = document.activeElement === startButton; // disabling the button removes the focus
  startButton.disabled = true;
  endpoint.setError(null);
  if (isSuperseded(endpoint)) endpoint.open(); // pressing start selects this tab
  try {
    // Without a camera there is no call, so it is captured first.
    if (!(await captureTrack(endpoint, 'video', refresh))) return;
    await captureTrack(endpoint, 'audio', refresh);
    if (isSuperseded(endpoint)) stopAll(endpoint, refresh); // during the permission prompt
    else endpoint.start();
  } finally {
    startButton.disabled = false;
    updateControls(endpoint, refresh, hadFocus && document.activeElement === document.body);
  }
}

/** @param {SendingEndpoint} endpoint */
function isSuperseded(endpoint) {
  return endpoint.inbox.status === 'superseded';
}

/**
 * @param {SendingEndpoint} endpoint
 * @param {() => void} refresh
 */
function stopAll(endpoint, refresh) {
  endpoint.stop();
  stopTrack('video');
  stopTrack('audio');
  hintOverride = '';
  captureErrors.video = captureErrors.audio = null;
  updateControls(endpoint, refresh);
}

/**
 * Applies a new choice immediately. Before start, only the preview shows it.
 * @param {SendingEndpoint} endpoint
 * @param {Kind} kind
 * @param {() => void} refresh
 */
async function onChoice(endpoint, kind, refresh) {
  if (kind === 'video' || endpoint.live) await captureTrack(endpoint, kind, refresh);
  updateControls(endpoint, refresh);
}

/**
 * Replaces the track of a kind with one of the chosen device, and reports
 * whether that succeeded. Captures run one at a time, because two concurrent
 * captures would leak a track.
 * @param {SendingEndpoint} endpoint
 * @param {Kind} kind
 * @param {() => void} refresh
 */
function captureTrack(endpoint, kind, refresh) {
  captureQueue = captureQueue.catch(() => false).then(() => captureNow(endpoint, kind, refresh));
  return captureQueue;
}

/**
 * @param {SendingEndpoint} endpoint
 * @param {Kind} kind
 * @param {() => void} refresh
 */
async function captureNow(endpoint, kind, refresh) {
  const {choice} = lists[kind];
  if (kind === 'video') hintOverride = '';
  if (choice === capturedChoice[kind] && (choice === NONE || tracks[kind]?.readyState === 'live')) return true;
  if (choice !== SCREEN) stopTrack(kind); // before the capture, because some cameras cannot be opened twice
  try {
    const track = await capture(kind, choice);
    stopTrack(kind);
    track?.addEventListener('ended', () => onTrackEnded(endpoint, kind, track, refresh));
    tracks[kind] = track;
    captureErrors[kind] = null;
  } catch (error) {
    if (choice === SCREEN) return onScreenShareCancelled();
    captureErrors[kind] = captureNotice(error, kind);
  }
  await endpoint.setTrack(kind, tracks[kind]);
  if (kind === 'video') preview.srcObject = tracks.video && new MediaStream([tracks.video]);
  await fillDeviceLists(); // labels are available after permission
  capturedChoice[kind] = lists[kind].select(tracks[kind]);
  return !captureErrors[kind];
}

/** Restores the previous choice. Usually the user has cancelled the prompt. */
function onScreenShareCancelled() {
  lists.video.restore();
  hintOverride = 'The screen was not shared.';
  return false;
}

/** @param {Kind} kind */
function stopTrack(kind) {
  tracks[kind]?.stop();
  tracks[kind] = null;
  if (kind === 'video') preview.srcObject = null;
}

/**
 * Handles a track that the device ended: it was unplugged, its permission was
 * revoked, or another program took it over.
 * @param {SendingEndpoint} endpoint
 * @param {Kind} kind
 * @param {MediaStreamTrack} track
 * @param {() => void} refresh
 */
function onTrackEnded(endpoint, kind, track, refresh) {
  if (tracks[kind] !== track) return;
  if (kind === 'video') stopAll(endpoint, refresh);
  captureErrors[kind] = endedNotice(kind);
  refresh();
}

/**
 * @param {Kind} kind
 * @returns {Notice}
 */
function endedNotice(kind) {
  const hint = 'Choose another in the list, or press start again.';
  if (kind === 'video' && capturedChoice.video === SCREEN) return {tone: 'calm', title: 'The screen is no longer shared', hint};
  return {tone: 'bad', title: `The ${kind === 'video' ? 'camera' : 'microphone'} has stopped`, hint};
}

/** Whether the start or stop button has the focus. Only one of them is visible. */
function buttonHasFocus() {
  return document.activeElement === startButton || document.activeElement === stopButton;
}

/**
 * @param {SendingEndpoint} endpoint
 * @param {() => void} refresh
 */
function updateControls(endpoint, refresh, hadFocus = buttonHasFocus()) {
  startButton.hidden = endpoint.live;
  stopButton.hidden = !endpoint.live;
  document.body.classList.toggle('live', endpoint.live);
  document.body.classList.toggle('previewing', Boolean(tracks.video));
  if (hadFocus) (endpoint.live ? stopButton : startButton).focus(); // hiding a button removes its focus
  refresh();
}
