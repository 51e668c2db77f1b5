'use strict';
// The page for people: map.js draws who follow.js says is inside, and a list says it in words.
(() => {
	const maxRows = 200, maxNews = 30;
	const everywhere = '-90-180 +90+180';
	const $ = (id) => document.getElementById(id);
	const plural = (n, one, many) => n.toLocaleString('en') + ' ' + (n === 1 ? one : many);

	let state = 'connecting', until = 0; // when it tries again, in ms
	let asOf = 0; // when what is shown was last known to be so
	let fitted = false; // the map has shown all once, or somebody moved it
	let marked = '', drawing = 0, dirty = true, pause = 120; // ms
	let box = null; // what the map shows

	const map = worldMap($('map'), {
		outline: $('map').dataset.outline,
		label: 'Map of who is where; the list says the same',
		viewed: (b) => {
			const same = box && ['south', 'west', 'north', 'east'].every((side) => box[side] === b[side]);
			box = b;
			if (!same && $('view').checked) herd.watch(area());
		},
		picked: (c) => pick(c.id),
		pointed: (text) => $('pointed').textContent = text,
	});

	// area is what is watched: the world, or what the map shows.
	const area = () => {
		if (!$('view').checked || !box) return everywhere;
		const part = (n) => (n < 0 ? '-' : '+') + Math.abs(n).toFixed(6);
		return `${part(box.south)}${part(box.west)} ${part(box.north)}${part(box.east)}`;
	};

	const words = {
		connecting: () => 'Connecting …',
		listing: () => 'Connected. Asking who is where …',
		live: () => 'Live: moves are shown as they come.',
		away: () => {
			const left = Math.ceil((until - Date.now()) / 1000);
			return 'The edge does not answer; ' + (left > 0 ? `trying again in ${left} s` : 'trying again') +
				(asOf ? '. What is shown was so at ' + clock(asOf) + '.' : '.');
		},
		denied: () => 'The edge does not let this page in any more: load it again to log in.',
		refused: () => 'The edge does not tell who is where (HERD_LIVE is off).',
		full: () => 'Too many are in this area for one page. Zoom in, and let it show only what the map shows.',
	};
	const say = () => {
		const text = words[state]();
		if ($('state').textContent !== text) $('state').textContent = text;
		document.querySelector('header').className = state === 'denied' ? 'refused' : state;
	};

	const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');
	const age = (ms) => {
		const s = Math.round((Date.now() - ms) / 1000);
		return s < -60 || s > 86400 ? new Date(ms).toLocaleString('en-GB', { dateStyle: 'short', timeStyle: 'short' }) :
			s < 2 ? 'now' : s < 100 ? s + ' s ago' : s < 5400 ? Math.round(s / 60) + ' min ago' : Math.round(s / 3600) + ' h ago';
	};
	const place = (c) => `${Math.abs(c.lat).toFixed(5)}° ${c.lat < 0 ? 'S' : 'N'}, ${Math.abs(c.lon).toFixed(5)}° ${c.lon < 0 ? 'W' : 'E'}`;

	const news = (c, text) => {
		const item = document.createElement('li'), who = document.createElement('bdi');
		who.textContent = c.id;
		item.append(clock(Date.now()) + ' ', who, ' ' + text);
		$('news').prepend(item);
		while ($('news').children.length > maxNews) $('news').lastChild.remove();
	};
	const reasons = { left: 'has left', forgotten: 'was not heard of for long', missing: 'is gone' };

	const here = location.origin + location.pathname; // without a login that was typed before the host
	const herd = follow(new URL('lines', here.replace(/^http/, 'ws')), {
		state(name, seconds) {
			if (name === 'away') {
				if (state === 'live') asOf = Date.now();
				until = Date.now() + seconds * 1000;
				if (seconds >= 1) ask(); // the second time
			}
			if (name === 'live' && !fitted) showAll();
			if (!(name === 'connecting' && (state === 'away' || state === 'denied'))) state = name; // what was wrong stays said until it is not
			say();
			change();
		},
		came(c) {
			if (state === 'live') news(c, 'has come');
			change();
		},
		moved: () => change(),
		left(c, why) {
			if (why !== 'missing' || !$('view').checked) news(c, reasons[why]);
			change();
		},
	});

	// ask finds out why the WebSocket is closed, which browsers do not tell: this login is none any more, or
	// nothing answers. It sends no login by itself, so that the browser does not ask for one.
	const ask = async () => {
		try {
			const answer = await fetch(here, { method: 'HEAD', credentials: 'omit' });
			if (answer.status === 401 && state === 'away') state = 'denied';
			say();
		} catch { /* it does not answer, which is said already */ }
	};

	const showAll = () => {
		const all = [...herd.inside.values()];
		if (!all.length) return;
		const lats = all.map((c) => c.lat), lons = all.map((c) => c.lon);
		const least = (list) => list.reduce((a, b) => Math.min(a, b)), most = (list) => list.reduce((a, b) => Math.max(a, b));
		const south = least(lats), north = most(lats), west = least(lons), east = most(lons);
		const r = $('map').getBoundingClientRect();
		map.go((south + north) / 2, (west + east) / 2, Math.max(1.3 * (east - west), 1.5 * (north - south) * r.width / r.height, 0.02));
		fitted = true;
	};

	const pick = (id) => {
		const c = herd.inside.get(id);
		if (!c) return;
		marked = id;
		map.mark(id);
		map.go(c.lat, c.lon);
		fitted = true;
		$('pointed').textContent = `${id}: ${place(c)}, ${age(c.time)}, told to ${c.edge}`;
		change();
	};

	// Rows are kept and changed, so that focus and a screen reader's place stay.
	const rows = new Map();
	const row = (id) => {
		const tr = document.createElement('tr'), who = document.createElement('th'), button = document.createElement('button'), name = document.createElement('bdi');
		who.scope = 'row';
		name.textContent = id;
		button.type = 'button';
		button.append(name);
		button.addEventListener('click', () => pick(id));
		who.append(button);
		tr.append(who, document.createElement('td'), document.createElement('td'));
		return tr;
	};
	const set = (cell, text) => {
		if (cell.textContent !== text) cell.textContent = text;
	};

	const draw = () => {
		const all = [...herd.inside.values()];
		map.show({ clients: all });
		const wanted = $('filter').value.trim().toLowerCase();
		const found = all.filter((c) => c.id.toLowerCase().includes(wanted)).sort((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
		const shown = found.slice(0, maxRows), kept = new Set(shown.map((c) => c.id));
		for (const [id, tr] of rows) {
			if (kept.has(id)) continue;
			tr.remove();
			rows.delete(id);
		}
		shown.forEach((c, i) => {
			let tr = rows.get(c.id);
			if (!tr) rows.set(c.id, tr = row(c.id));
			set(tr.children[1], place(c));
			set(tr.children[2], age(c.time));
			tr.children[2].title = new Date(c.time).toLocaleString('en-GB') + ', told to ' + c.edge;
			tr.classList.toggle('marked', c.id === marked);
			if ($('rows').children[i] !== tr) $('rows').insertBefore(tr, $('rows').children[i] ?? null);
		});
		set($('more'), found.length > shown.length ? `and ${(found.length - shown.length).toLocaleString('en')} more: search for a name` : wanted && !found.length ? 'No name has this in it.' : '');
		const seen = $('view').checked ? ' in view' : '';
		set($('count'), all.length ? plural(all.length, 'client', 'clients') + seen : state === 'live' ? 'Nobody' + seen : 'Nobody yet');
		document.title = all.length ? `${all.length.toLocaleString('en')} · Who is where` : 'Who is where';
	};

	// change draws soon, not for each line: 8 times a second, and for a fifth of the time at most.
	const change = () => {
		dirty = true;
		drawing ||= setTimeout(() => {
			const begun = performance.now();
			drawing = 0;
			dirty = false;
			draw();
			pause = Math.max(120, 4 * (performance.now() - begun));
		}, pause);
	};
	setInterval(() => {
		say();
		if (!dirty && !document.hidden) draw(); // ages
	}, 1000);

	$('all').addEventListener('click', showAll);
	$('world').addEventListener('click', () => map.world());
	$('in').addEventListener('click', () => map.zoom(1.6));
	$('out').addEventListener('click', () => map.zoom(1 / 1.6));
	$('filter').addEventListener('input', change);
	$('view').addEventListener('change', () => herd.watch(area()));
	$('map').addEventListener('pointerdown', () => fitted = true);
	$('map').addEventListener('keydown', () => fitted = true);

	// A page that nobody looks at follows nothing.
	const look = () => {
		if (document.hidden) herd.close();
		else herd.watch(area());
	};
	document.addEventListener('visibilitychange', look);
	addEventListener('pagehide', () => herd.close());
	addEventListener('pageshow', (e) => e.persisted && look());
	look();
})();
