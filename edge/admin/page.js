'use strict';
// Fetches the page again and again and puts its main part in place of the old one.
const main = document.querySelector('main');
const note = document.querySelector('#note');
let seen = new Date();

const tell = (text, stale) => {
	note.ariaLive = stale ? 'assertive' : 'off'; // a screen reader need not say the time every two seconds
	note.textContent = text;
	document.body.classList.toggle('stale', stale);
};

const refresh = async () => {
	if (document.hidden) return;
	try {
		const answer = await fetch(location.pathname, { signal: AbortSignal.timeout(5000) });
		if (!answer.ok) throw new Error(answer.status);
		const next = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('main');
		// What has not changed stays, and with it what somebody has selected.
		if (next.innerHTML !== main.innerHTML) main.replaceChildren(...next.childNodes);
		seen = new Date();
		tell('as of ' + seen.toLocaleTimeString(), false);
	} catch {
		tell('no answer since ' + seen.toLocaleTimeString(), true);
	}
};

const run = async () => {
	await refresh();
	setTimeout(run, 2000);
};
tell('as of ' + seen.toLocaleTimeString(), false);
setTimeout(run, 2000);
document.addEventListener('visibilitychange', refresh);
