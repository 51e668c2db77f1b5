'use strict';
// The page follows its server by server-sent events (or, where it cannot, by asking every five seconds)
// and draws only what has changed. It keeps the newest state alone: nothing here grows with
// time.
(() => {
	const $ = (id) => document.getElementById(id);
	const el = (name, classes, text) => {
		const e = document.createElement(name);
		if (classes) e.className = classes;
		if (text !== undefined) e.textContent = text;
		return e;
	};
	const write = (e, text) => {
		if (e.textContent !== text) e.textContent = text;
	};

	// How things are written.
	const count = (n) => n === undefined || n === null ? '–' : Math.round(n).toLocaleString('en');
	const rate = (n) => n === undefined || n === null ? '–' : n > 0 && n < 9.95 ? n.toFixed(1).replace('.0', '') : count(n);
	const seconds = (s) => !s ? '–' : s < 999.5e-6 ? (s * 1e6).toFixed(0) + ' µs' : s < 0.9995 ? +(s * 1e3).toPrecision(3) + ' ms' : s.toFixed(1) + ' s';
	const bytes = (n) => !n ? '–' : n < 1e6 ? Math.round(n / 1024) + ' KiB' : n < 1e9 ? Math.round(n / 2 ** 20) + ' MiB' : (n / 2 ** 30).toFixed(1) + ' GiB';
	const percent = (n) => n === undefined || n === null ? '–' : n < 0.095 ? (n * 100).toFixed(1) + ' %' : Math.round(n * 100) + ' %';
	const long = (s) => s < 90 ? Math.max(0, Math.round(s)) + ' s' : s < 5400 ? Math.round(s / 60) + ' min' : s < 172800 ? (s / 3600).toFixed(1) + ' h' : Math.round(s / 86400) + ' days';
	const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
	const clock = (text) => {
		const t = new Date(text);
		if (!text || isNaN(t)) return '–';
		const time = t.toISOString().slice(11, 19);
		return t.toISOString().slice(0, 10) === String(herd?.at).slice(0, 10) ? time : `${t.getUTCDate()} ${months[t.getUTCMonth()]} ${time}`;
	};
	const age = (text) => text ? long((new Date(herd.at) - new Date(text)) / 1000) : '';
	const plural = (n, one, more) => count(n) + ' ' + (n === 1 ? one : more);
	// printable shows characters that cannot be seen, or that change how others are shown, by their numbers, so
	// that different texts look different.
	const printable = (text) => text.replace(/\\(?=u\{)|[\p{C}\p{Zl}\p{Zp}]/gu, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
	const idText = (id) => {
		const e = el('bdi', 'id', printable(id));
		e.dir = 'ltr';
		return e;
	};

	const marks = { ok: '✓', warning: '▲', down: '✕', unknown: '?' };
	const icons = { // as in page.go
		ok: '<circle cx="8" cy="8" r="7" fill="#17693c"/>', warning: '<path d="M8 1l7.5 14H.5z" fill="#b07400"/>',
		down: '<path d="M1 1h14v14H1z" fill="#a3201d"/>', unknown: '<path d="M8 1l7 7-7 7-7-7z" fill="#5c666b"/>',
	};	let icon = '';
	const setIcon = (level) => {
		if (icon === level) return;
		icon = level;
		$('icon').href = 'data:image/svg+xml,' + encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${icons[level] ?? icons.unknown}</svg>`);
	};

	// rows makes a table's body show a list. A cell is a text, a node, or {text, class, pill, sub}.
	// Rows are kept by key and cells by what they show, so that a selection or a focus stays.
	const rows = (body, list, keyOf, cellsOf) => {
		const known = body.known ??= (body.replaceChildren(), new Map());
		const seen = new Set();
		let next = body.firstChild;
		for (const item of list) {
			const key = keyOf(item), { id, classes, cells } = cellsOf(item);
			seen.add(key);
			let row = known.get(key);
			if (!row) {
				row = el('tr');
				row.shown = [];
				known.set(key, row);
				cells.forEach((_, i) => row.append(el(i ? 'td' : 'th')));
				row.firstChild.scope = 'row';
				if (id) row.id = id;
			}
			if (row.className !== (classes ?? '')) row.className = classes ?? '';
			cells.forEach((cell, i) => {
				const c = typeof cell === 'object' && cell !== null ? cell : { text: cell };
				const sign = JSON.stringify([c.text, c.class, c.pill, c.sub, c.id]);
				if (row.shown[i] === sign) return;
				row.shown[i] = sign;
				const td = row.children[i];
				td.className = c.class ?? '';
				const inner = c.id !== undefined ? idText(c.id) : c.pill ? el('span', 'pill ' + c.pill, printable(c.text)) : document.createTextNode(printable(c.text ?? ''));
				if (c.act) {
					const button = el('button', 'plain');
					button.type = 'button';
					button.append(inner);
					button.addEventListener('click', c.act);
					td.replaceChildren(button);
				} else td.replaceChildren(inner);
				if (c.sub) td.append(' ', el('span', 'sub', printable(c.sub)));
			});
			if (row === next) next = next.nextSibling;
			else body.insertBefore(row, next);
		}
		for (const [key, row] of known) if (!seen.has(key)) {
			row.remove();
			known.delete(key);
		}
	};

	// The state: what the last "herd" message said, with the changes since.
	let herd = null;
	const linkKey = (l) => l.a + '-' + l.b;
	const flatten = (e) => {
		const s = e.status;
		e.numbers = s ? {
			clients: s.clients, connections: s.connections, watches: s.watches,
			updates_per_second: s.rates?.updates_per_second, questions_per_second: s.rates?.questions_per_second,
			refusals_per_second: s.rates?.refusals_per_second, p99_seconds: s.rates?.p99_seconds,
			cpu_cores: s.process?.cpu_cores, memory_bytes: s.process?.memory_bytes, goroutines: s.process?.goroutines, journal_lag: s.journal?.lag,
		} : {};
		return e;
	};
	const take = (next) => {
		herd = next;
		herd.edges.forEach(flatten);
	};
	const change = (c) => {
		if (!herd) return;
		for (const k of ['at', 'summary', 'totals', 'server']) if (c[k]) herd[k] = c[k];
		if (c.sentence) herd.summary.sentence = c.sentence;
		for (const e of c.edges ?? []) {
			const i = herd.edges.findIndex((o) => o.name === e.name);
			if (i >= 0) herd.edges[i] = flatten(e);
		}
		for (const l of c.links ?? []) {
			const i = herd.links.findIndex((o) => linkKey(o) === linkKey(l));
			if (i >= 0) herd.links[i] = l;
		}
		if (c.events?.length) {
			const fresh = new Map(c.events.map((e) => [e.id, e]));
			herd.events = [...c.events, ...herd.events.filter((e) => !fresh.has(e.id))].sort((a, b) => a.at < b.at ? 1 : a.at > b.at ? -1 : 0).slice(0, 100);
		}
		if (c.point) for (const k of charts) {
			const h = herd.history[k] ??= [];
			h.push(c.point[k] ?? null);
			if (h.length > 60) h.splice(0, h.length - 60);
		}
		for (const [name, row] of Object.entries(c.numbers?.edges ?? {})) {
			const e = herd.edges.find((o) => o.name === name);
			if (e) herd.columns.edge.forEach((k, i) => e.numbers[k] = row[i] ?? undefined);
		}
		for (const [key, row] of Object.entries(c.numbers?.links ?? {})) {
			const l = herd.links.find((o) => linkKey(o) === key);
			if (l) herd.columns.link.forEach((k, i) => {
				const [way, field] = k.split('.');
				(l[way] ??= {})[field] = row[i] ?? undefined;
			});
		}
	};

	// What is drawn.
	const charts = ['updates_per_second', 'questions_per_second', 'refusals_per_second', 'p99_seconds', 'lag'];
	const order = { down: 0, warning: 1, unknown: 2, ok: 3 };
	const kindOf = (e) => e.state === 'silent' ? 'silent' : e.level;
	const drawTop = () => {
		const { summary, server, at } = herd;
		document.title = `${marks[summary.level] ?? '?'} ${printable(summary.short)}`;
		setIcon(summary.level);
		$('top').className = summary.level;
		write($('sentence'), printable(summary.sentence));
		write($('mark'), marks[summary.level] ?? '?');
		write($('where'), `${server.scope === 'edge' ? 'Edge ' : 'The herd, seen by '}${printable(server.name)}`);
		const says = summary.level + ': ' + (summary.problems.map((p) => p.text).join('. ') || summary.short);
		write($('alert'), says);
		const list = summary.problems.slice(0, 20);
		const sign = JSON.stringify(list);
		if ($('problems').sign !== sign) {
			$('problems').sign = sign;
			$('problems').replaceChildren(...list.map((p) => {
				const li = el('li', p.level);
				li.append(el('span', 'pill ' + p.level, p.level), ' ', printable(p.text));
				if (p.since) li.append(' ', el('span', 'sub', 'since ' + clock(p.since)));
				if (p.next) {
					const next = el('span', 'next', 'look next: ');
					next.append(el('code', '', printable(p.next)));
					li.append(' ', next);
				}
				return li;
			}));
			$('problems').hidden = !list.length;
		}
		let note = '';
		if (server.broker_away) note = 'This server cannot ask other edges just now: the broker is away.';
		if (server.scope === 'edge') note = [server.scope_note, server.scope_command && 'All edges: ' + server.scope_command].filter(Boolean).join(' ');
		write($('scope'), printable(note));
		$('scope').hidden = !note;
		tell(`${source ? 'live' : 'asked every 5 s'}, ${clock(at)} UTC`, false);
	};

	const drawFigures = () => {
		const { totals: t, history } = herd;
		write($('v-clients'), count(t.clients));
		write($('n-clients'), [plural(t.connections ?? 0, 'connection', 'connections'), t.watches !== undefined && plural(t.watches, 'watch', 'watches')].filter(Boolean).join(', '));
		for (const k of charts) {
			const how = k === 'p99_seconds' ? seconds : k === 'lag' ? count : rate;
			const now = t[k] ?? null, line = [...(history[k] ?? []), now];
			write($('v-' + k), how(now));
			const real = line.filter((v) => v !== null), most = Math.max(...real, 0);
			write($('n-' + k), real.length ? 'most ' + (most ? how(most) : '0') : 'not known yet');
			let d = '', pen = 'M';
			line.forEach((v, i) => {
				if (v === null) {
					pen = 'M';
					return;
				}
				const x = (240 * (61 - line.length + i) / 60).toFixed(1), y = (33 - 30 * v / (most || 1)).toFixed(1);
				d += pen === 'M' ? `M${x} ${y}h0.01` : `L${x} ${y}`;
				pen = 'L';
			});
			const path = $('l-' + k);
			if (path.getAttribute('d') !== d) path.setAttribute('d', d);
			path.parentElement.setAttribute('aria-label', real.length ? `ten minutes: from ${how(Math.min(...real)) } to ${how(most)}, now ${how(now)}` : 'not known yet');
		}
	};

	const journalText = (j) => !j ? '–' : j.mode === 'off' ? 'off' : j.up ? (j.nearly_full ? 'nearly full' : 'written') : 'not written';
	const journalNotes = (j, lag) => !j ? '' : [
		j.mode !== 'off' && !j.up && j.since && 'since ' + clock(j.since), lag > 0 && count(lag) + ' behind',
		(j.copies ?? 0) < (j.replicas ?? 0) && `${j.copies ?? 0} of ${j.replicas} copies`, j.skipped && count(j.skipped) + ' lines skipped', j.error,
	].filter(Boolean).join('; ');
	const notes = (s) => !s ? [] : [
		s.certificate_expires && certificate(s.certificate_expires), s.clock && 'clock: ' + s.clock,
		...(s.places ?? []).flatMap((p) => [p.breaker_open && `places: ${p.provider} fails`, p.budget_left !== undefined && `places: ${p.provider} has ${count(p.budget_left)} questions left today`]),
	];
	const certificate = (end) => {
		const left = new Date(end) - new Date(herd.at);
		return left >= 14 * 86400e3 ? '' : left > 0 ? 'certificate expires on ' + clock(end) : 'certificate expired since ' + clock(end);
	};
	const linkNotes = (l) => [
		l.parts_herd && 'parts the herd', l.config_differs && 'configured otherwise',
		...herd.edges.filter((e) => e.name === l.a || e.name === l.b).flatMap((e) => (e.status?.links ?? []).filter((k) => k.neighbour === l.a || k.neighbour === l.b).flatMap((k) => [
			k.put_off_lines > 0 && `${count(k.put_off_lines)} lines put off by ${e.name}`, k.unsendable_lines > 0 && `${count(k.unsendable_lines)} lines of ${e.name} too long to send`,
		])),
	].filter(Boolean).join('; ');
	const edgeCells = (e) => {
		const s = e.status, n = e.numbers, links = herd.links.filter((l) => l.a === e.name || l.b === e.name);
		const seen = links.filter((l) => l.state !== 'unknown').length, up = links.filter((l) => l.state === 'up').length;
		const lags = links.map((l) => (l.a === e.name ? l.ab : l.ba)?.lag).filter((x) => x !== undefined);
		const why = [e.why, e.topology_differs && 'topology differs', e.config_differs?.length && 'configured otherwise: ' + e.config_differs.join(', '), ...notes(s)].filter(Boolean).join('; ');
		const num = (text, bad) => ({ text, class: 'number' + (bad ? ' bad' : '') });
		return {
			id: 'edge-' + e.name, classes: kindOf(e),
			cells: [
				{ text: e.name, sub: e.parts_herd ? 'parts the herd' : '' },
				{ text: e.words, pill: kindOf(e), sub: why },
				{ text: e.since ? clock(e.since) : '–', sub: age(e.since), class: 'since' },
				num(count(n.clients)), num(rate(n.updates_per_second)), num(rate(n.questions_per_second)),
				num(rate(n.refusals_per_second), n.refusals_per_second > 0), num(seconds(n.p99_seconds)), num(count(n.connections)), num(count(n.watches)),
				num(seen ? `${up} of ${seen}` : e.neighbours.length ? '–' : 'none', up < seen), num(lags.length ? count(Math.max(...lags)) : '–'),
				{ text: journalText(s?.journal), class: s && s.journal.mode !== 'off' && !s.journal.up ? 'bad' : '', sub: journalNotes(s?.journal, n.journal_lag) },
				{ text: !s ? '–' : !s.broker_connected ? 'away' : s.broker_server ? s.broker_server.replace(/^nats:\/\//, '') : s.broker, class: s && !s.broker_connected ? 'bad' : '', sub: s && !s.broker_connected && s.broker_since ? 'since ' + clock(s.broker_since) : '' },
				num(percent(n.cpu_cores)), num(bytes(n.memory_bytes)), num(s?.started ? age(s.started) : '–'), s?.version ?? '–',
			],
		};
	};
	const drawEdges = () => {
		const list = [...herd.edges].sort((a, b) => order[a.level] - order[b.level] || (a.name < b.name ? -1 : 1));
		rows($('edges'), list, (e) => e.name, edgeCells);
		write($('edges-note'), shared(herd.edges));
		const topologies = new Map();
		for (const e of herd.edges) if (e.status?.topology !== undefined) topologies.set(e.status.topology, [...(topologies.get(e.status.topology) ?? []), e.name]);
		$('topologies').hidden = topologies.size < 2;
		rows($('topology-rows'), topologies.size < 2 ? [] : [...topologies], ([t]) => t, ([t, names]) => ({ cells: [names.join(', '), { text: t, class: 'code' }] }));
	};
	// shared says which figures are of a process and not of an edge.
	const shared = (edges) => {
		const all = edges.map((e) => e.status?.process?.id).filter(Boolean);
		return new Set(all).size < all.length ? 'CPU and memory are those of the process, which several edges share.' : '';
	};

	const drawLinks = () => {
		const ill = (l) => order[l.level] ?? 2;
		const list = [...herd.links].sort((a, b) => ill(a) - ill(b) || (linkKey(a) < linkKey(b) ? -1 : 1));
		const way = (w, f, how) => w?.[f] === undefined ? '–' : how(w[f]);
		const two = (l, f, how) => ({ text: way(l.ab, f, how) + ' / ' + way(l.ba, f, how), class: 'number' });
		rows($('links'), list, linkKey, (l) => ({
			classes: l.state === 'silent' ? 'silent' : l.level,
			cells: [
				{ text: l.a + '–' + l.b, sub: linkNotes(l) },
				{ text: l.words, pill: l.state === 'silent' ? 'silent' : l.level, sub: l.state === 'up' ? '' : [...new Set([l.ab?.reason, l.ba?.reason].filter(Boolean))].join('; ') },
				{ text: l.since ? clock(l.since) : '–', sub: age(l.since), class: 'since' },
				two(l, 'lag', count), two(l, 'round_trip_seconds', seconds), two(l, 'lines_per_second', rate), two(l, 'bytes_per_second', (b) => b < 1024 ? count(b) + ' B' : bytes(b)),
			],
		}));
	};

	const drawEvents = () => {
		rows($('events'), herd.events, (e) => e.id, (e) => ({
			classes: e.level,
			cells: [
				{ text: clock(e.at), sub: e.open ? 'for ' + age(e.at) : '' }, e.edge,
				{ text: e.text, class: 'what ' + e.level, sub: e.open ? 'still so' : e.until ? 'until ' + clock(e.until) : '' },
			],
		}));
		$('no-events').hidden = herd.events.length > 0;
	};

	const graph = herdGraph($('graph'));
	const compact = (n) => n === undefined ? '–' : n < 1000 ? rate(n) : n < 99950 ? (n / 1000).toFixed(1) + 'k' : Math.round(n / 1000) + 'k';
	const drawGraph = () => {
		const most = (...v) => v.some((x) => x !== undefined) ? Math.max(...v.filter((x) => x !== undefined)) : undefined;
		graph.show({
			edges: herd.edges.map((e) => ({
				name: e.name, kind: kindOf(e), words: kindOf(e) === 'silent' && e.since ? 'silent since ' + clock(e.since) : e.words, parts: e.parts_herd, href: '#edge-' + e.name,
				note: e.status ? plural(e.numbers.clients, 'client', 'clients') + (e.numbers.updates_per_second === undefined ? '' : `, ${rate(e.numbers.updates_per_second)}/s`) : '',
			})),
			links: herd.links.map((l) => {
				const lag = most(l.ab?.lag, l.ba?.lag), trip = most(l.ab?.round_trip_seconds, l.ba?.round_trip_seconds);
				return {
					a: l.a, b: l.b, kind: l.state === 'silent' ? 'silent' : l.level, words: l.state === 'half' ? 'one way' : l.state, parts: l.parts_herd,
					forth: compact(l.ab?.lines_per_second) + '/s', back: compact(l.ba?.lines_per_second) + '/s',
					note: l.state === 'up' ? `${seconds(trip)}, lag ${lag === undefined ? '–' : count(lag)}` : l.since ? 'since ' + clock(l.since) : '',
				};
			}),
		});
		write($('lone'), herd.links.length ? '' : herd.edges.length === 1 ? 'A lone edge: it has no links.' : '');
	};

	let due = 0, slowest = 0;
	const draw = () => {
		due ||= requestAnimationFrame(() => {
			due = 0;
			if (!herd) return;
			const begun = performance.now();
			drawTop();
			drawFigures();
			drawGraph();
			drawEdges();
			drawLinks();
			drawEvents();
			eyes.herdSeen(herd);
			slowest = Math.max(slowest, performance.now() - begun);
			document.body.dataset.seen = herd.at;
			document.body.dataset.slowest = slowest.toFixed(1);
		});
	};

	// Where it comes from.
	let source = null, heard = Date.now(), polling = 0, again = 0;
	const tell = (text, stale) => {
		write($('note'), text);
		$('note').setAttribute('aria-live', stale ? 'assertive' : 'off'); // the time need not be read out every second
		document.body.classList.toggle('stale', stale);
	};
	const lost = () => {
		if (document.hidden || Date.now() - heard < 6000) return;
		const since = herd ? clock(herd.at) + ' UTC' : 'this page was opened';
		tell('no answer since ' + since, true);
		write($('sentence'), `No answer from this server since ${since}` + (herd ? '; until then: ' + printable(herd.summary.sentence) : ''));
		write($('mark'), '?');
		$('top').className = 'unknown';
		document.title = '? no answer';
		setIcon('unknown');
	};
	const poll = async () => {
		try {
			const answer = await fetch('status.json', { signal: AbortSignal.timeout(5000) });
			if (!answer.ok) throw new Error(answer.status);
			take(await answer.json());
			heard = Date.now();
			draw();
		} catch {
			lost();
		}
	};
	const close = () => {
		source?.close();
		source = null;
		clearInterval(polling);
		clearTimeout(again);
		polling = again = 0;
	};
	const open = () => {
		close();
		if (document.hidden) return;
		const own = source = new EventSource('events');
		const on = (name, act) => own.addEventListener(name, (e) => {
			heard = Date.now();
			act(JSON.parse(e.data));
			draw();
		});
		on('herd', take);
		on('change', change);
		own.addEventListener('error', () => {
			// While it connects again by itself nothing else is needed; where it gave up, the state is asked for.
			if (own !== source || own.readyState !== EventSource.CLOSED) return;
			close();
			poll();
			polling = setInterval(poll, 5000);
			again = setTimeout(open, 30000);
		});
	};
	document.addEventListener('visibilitychange', () => {
		heard = Date.now();
		open();
	});
	window.addEventListener('pagehide', close);
	window.addEventListener('pageshow', (e) => e.persisted && open());
	setInterval(lost, 1000);

	const eyes = herdQuestions({ $, el, write, rows, printable, idText, count, clock, seconds, plural });
	$('links-details').open = false; // the graph shows them
	document.body.classList.add('scripted');
	open();
})();
