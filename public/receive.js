/**
 * The screen page. It joins the call automatically, because receiving needs no
 * permission.
 */

import {isolate} from './dom.js';
import {bindFullscreen, leaveFullscreen} from './fullscreen.js';
import {WakeLock, bindInvitation, bindStatus, find, joinRoom} from './page.js';
import {Playback, bindPress} from './play.js';
import {ReceivingEndpoint} from './session.js';
import * as strings from './strings.js';

/**
 * @typedef {import('./session.js').Remote} Remote
 * @typedef {import('./session.js').EndpointState} EndpointState
 * @typedef {import('./status.js').Notice} Notice
 */

const texts = strings.receive;

const layout = find('.receive-layout', HTMLElement);
const stage = find('.stage', HTMLElement);
const picture = find('#picture', HTMLVideoElement);
const soundButton = find('#sound', HTMLButtonElement);
const fullscreenButton = find('#fullscreen', HTMLButtonElement);
const wakeLock = new WakeLock();

/**
 * Returns the notice for a call without errors.
 * @param {EndpointState} state
 * @param {Remote} remote
 * @returns {Notice}
 */
function noticeFor(state, {device, media}) {
  if (state === 'connected') return connectedNotice(device, media);
  if (state === 'present' && media.video === 'ended') return {tone: 'busy', ...texts.cameraEnded};
  return {tone: 'busy', ...texts[state]};
}

/**
 * @param {string} device
 * @param {Remote['media']} media
 * @returns {Notice}
 */
function connectedNotice(device, {audio, video}) {
  if (video === 'interrupted') return {tone: 'busy', ...texts.cameraPaused};
  const soundHints = {on: '', screen: '', off: texts.withoutSound, interrupted: texts.soundPaused, ended: texts.soundEnded};
  return {tone: 'good', title: texts.connected.title, hint: soundHints[audio] || texts.connected.hint({device: isolate(device)})};
}

/** @param {import('./page.js').Context} context */
function run(context) {
  const endpoint = new ReceivingEndpoint(context);
  const playback = new Playback(picture);
  const refresh = bindStatus(context, endpoint, () => noticeFor(endpoint.state, endpoint.remote));
  void bindInvitation(context, endpoint, {page: 'receive', other: 'send'});
  endpoint.addEventListener('track', event => playback.show(/** @type {CustomEvent} */ (event).detail.track));
  endpoint.addEventListener('state', () => {
    if (!endpoint.peer) endCall(playback);
    void wakeLock.set(endpoint.state === 'connected');
  });
  find('#take-over', HTMLButtonElement).addEventListener('click', () => endpoint.open());
  bindSound(playback);
  bindFullscreen({root: layout, video: picture, button: fullscreenButton, controls: [find('.toolbar', HTMLElement)]});
  document.addEventListener('fullscreenchange', nameFullscreenButton);
  refresh();
  endpoint.open();
}

function nameFullscreenButton() {
  fullscreenButton.textContent = document.fullscreenElement === layout ? texts.leaveFullscreen : texts.fullscreen;
}

/** @param {Playback} playback */
function endCall(playback) {
  playback.clear();
  leaveFullscreen(layout, picture);
}

/**
 * A press anywhere on the picture turns the sound on, and starts what the browser
 * has refused to play.
 * @param {Playback} playback
 */
function bindSound(playback) {
  bindPress(playback, find('#press', HTMLButtonElement));
  picture.addEventListener('click', () => playback.press());
  soundButton.addEventListener('click', () => playback.setSound(!playback.sound));
  const update = () => {
    soundButton.textContent = playback.sound ? texts.mute : texts.unmute;
    stage.classList.toggle('audible', playback.sound);
  };
  playback.addEventListener('change', update);
  update();
}

const context = await joinRoom('receive');
if (context) run(context);
