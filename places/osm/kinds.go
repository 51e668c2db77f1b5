package osm

import (
	"bytes"
	"slices"
	"strings"
)

// key is the key of a tag that says something about a place.
type key int8

const (
	name key = iota
	amenity
	shop
	tourism
	leisure
	office
	historic
	craft
	healthcare
	publicTransport
	railway
	religion
	full
	housenumber
	street
	quarter
	city
	town
	village
	hamlet
	suburb
	keys int = iota
)

// keyOf has the keys by their names in OpenStreetMap.
var keyOf = map[string]key{
	"name": name, "amenity": amenity, "shop": shop, "tourism": tourism, "leisure": leisure, "office": office,
	"historic": historic, "craft": craft, "healthcare": healthcare, "public_transport": publicTransport,
	"railway": railway, "religion": religion,
	"addr:full": full, "addr:housenumber": housenumber, "addr:street": street, "addr:place": quarter,
	"addr:city": city, "addr:town": town, "addr:village": village, "addr:hamlet": hamlet, "addr:suburb": suburb,
}

// tags are the values of one element, by key; nil if it has none.
type tags [keys][]byte

// longest is the maximum length of a value in bytes: OpenStreetMap allows 255 characters. A
// longer value is ignored.
const longest = 4 * 255

func (t *tags) set(k key, value []byte) {
	if len(value) <= longest {
		t[k] = bytes.TrimSpace(value)
	}
}

// every lists the types that all places have, after their own.
const every = "point_of_interest establishment"

// kinds says which values of which keys make a place, and its types: Google's types of the
// legacy API, or of the new API if the legacy one has none. The most specific type comes
// first. The value * means all other values.
var kinds = [keys]map[string]string{
	amenity: {
		"arts_centre": "art_gallery", "atm": "atm finance", "bank": "bank finance", "bar": "bar",
		"biergarten": "bar restaurant food", "bicycle_rental": "", "bureau_de_change": "finance",
		"bus_station": "bus_station transit_station", "cafe": "cafe food", "car_rental": "car_rental",
		"car_wash": "car_wash", "casino": "casino", "charging_station": "electric_vehicle_charging_station",
		"cinema": "movie_theater", "clinic": "doctor health", "college": "university school",
		"community_centre": "community_center", "courthouse": "courthouse", "crematorium": "funeral_home",
		"dentist": "dentist health", "doctors": "doctor health", "embassy": "embassy",
		"fast_food": "meal_takeaway restaurant food", "ferry_terminal": "ferry_terminal transit_station",
		"fire_station": "fire_station", "food_court": "restaurant food", "fuel": "gas_station",
		"funeral_hall": "funeral_home", "grave_yard": "cemetery", "hospital": "hospital health",
		"ice_cream": "ice_cream_shop food", "kindergarten": "preschool school", "library": "library",
		"marketplace": "market", "nightclub": "night_club bar", "nursing_home": "health", "parking": "parking",
		"parking_space": "parking", "pharmacy": "pharmacy drugstore store health", "place_of_worship": "place_of_worship",
		"planetarium": "museum", "police": "police", "post_office": "post_office", "pub": "bar food",
		"public_building": "local_government_office", "restaurant": "restaurant food", "school": "school",
		"taxi": "taxi_stand transit_station", "theatre": "performing_arts_theater", "townhall": "city_hall local_government_office",
		"university": "university", "veterinary": "veterinary_care", "*": "",
	},
	shop: {
		"alcohol": "liquor_store store", "antiques": "store", "bakery": "bakery food store",
		"beauty": "beauty_salon", "bed": "furniture_store home_goods_store store", "beverages": "liquor_store store",
		"bicycle": "bicycle_store store", "books": "book_store store", "boutique": "clothing_store store",
		"butcher": "butcher_shop food store", "car": "car_dealer store", "car_parts": "auto_parts_store store",
		"car_repair": "car_repair", "chemist": "drugstore store", "clothes": "clothing_store store",
		"computer": "electronics_store store", "confectionery": "confectionery food store",
		"convenience": "convenience_store food store", "deli": "deli food store", "department_store": "department_store store",
		"doityourself": "hardware_store home_goods_store store", "dry_cleaning": "laundry",
		"electronics": "electronics_store store", "florist": "florist store", "funeral_directors": "funeral_home",
		"furniture": "furniture_store home_goods_store store", "garden_centre": "home_goods_store store",
		"gift": "gift_shop store", "greengrocer": "grocery_or_supermarket food store",
		"hairdresser": "hair_care", "hardware": "hardware_store home_goods_store store", "houseware": "home_goods_store store",
		"interior_decoration": "home_goods_store store", "jewelry": "jewelry_store store", "kiosk": "convenience_store store",
		"laundry": "laundry", "locksmith": "locksmith", "mall": "shopping_mall", "mobile_phone": "electronics_store store",
		"newsagent": "store", "optician": "health store", "outdoor": "sporting_goods_store store",
		"pastry": "bakery food store", "pet": "pet_store store", "seafood": "food store", "shoes": "shoe_store store",
		"sports": "sporting_goods_store store", "stationery": "store", "storage_rental": "storage",
		"supermarket": "supermarket grocery_or_supermarket food store", "tattoo": "beauty_salon", "tea": "food store",
		"toys": "store", "travel_agency": "travel_agency", "tyres": "car_repair store", "video": "movie_rental store",
		"wine": "liquor_store store", "*": "store",
	},
	tourism: {
		"alpine_hut": "lodging", "apartment": "lodging", "aquarium": "aquarium tourist_attraction", "artwork": "tourist_attraction",
		"attraction": "tourist_attraction", "camp_site": "campground lodging", "caravan_site": "rv_park campground lodging",
		"chalet": "lodging", "gallery": "art_gallery", "guest_house": "lodging", "hostel": "lodging", "hotel": "lodging",
		"information": "", "motel": "lodging", "museum": "museum tourist_attraction",
		"theme_park": "amusement_park tourist_attraction", "viewpoint": "tourist_attraction",
		"wilderness_hut": "lodging", "zoo": "zoo tourist_attraction", "*": "tourist_attraction",
	},
	leisure: {
		"amusement_arcade": "amusement_center", "beach_resort": "beach", "bowling_alley": "bowling_alley",
		"dance": "dance_hall", "fitness_centre": "gym health", "garden": "park", "golf_course": "golf_course",
		"marina": "marina", "nature_reserve": "park", "park": "park", "playground": "playground park",
		"sauna": "spa", "sports_centre": "gym", "stadium": "stadium", "swimming_pool": "swimming_pool",
		"water_park": "amusement_park", "*": "",
	},
	office: {
		"accountant": "accounting finance", "company": "", "diplomatic": "embassy", "estate_agent": "real_estate_agency",
		"financial": "finance", "government": "local_government_office", "insurance": "insurance_agency",
		"lawyer": "lawyer", "moving_company": "moving_company", "notary": "lawyer", "tax_advisor": "accounting finance",
		"travel_agent": "travel_agency", "*": "",
	},
	historic: {"*": "tourist_attraction"},
	craft: {
		"brewery": "food", "builder": "general_contractor", "caterer": "meal_delivery food", "electrician": "electrician",
		"key_cutter": "locksmith", "painter": "painter", "plumber": "plumber", "roofer": "roofing_contractor", "*": "",
	},
	healthcare: {
		"clinic": "doctor health", "dentist": "dentist health", "doctor": "doctor health", "hospital": "hospital health",
		"pharmacy": "pharmacy drugstore store health", "physiotherapist": "physiotherapist health", "*": "health",
	},
	publicTransport: {
		"platform": "transit_station", "station": "transit_station", "stop_position": "transit_station", "*": "transit_station",
	},
	railway: { // no *: most of a railway is not a place to visit
		"halt": "train_station transit_station", "station": "train_station transit_station",
		"subway_entrance": "subway_station transit_station", "tram_stop": "light_rail_station transit_station",
	},
}

// temples has the types of places of worship by religion.
var temples = map[string]string{
	"christian": "church", "hindu": "hindu_temple", "jewish": "synagogue", "muslim": "mosque",
}

// kind returns the types of the place that t describes, separated by spaces; ok is false if
// it is not a place. A value such as bakery;cafe has the types of both.
func (t *tags) kind() (types string, ok bool) {
	var first string
	var more []string
	for k, values := range kinds {
		rest := t[k]
		for len(values) > 0 && len(rest) > 0 {
			var value []byte
			value, rest, _ = bytes.Cut(rest, []byte(";"))
			value = bytes.TrimSpace(value)
			if len(value) == 0 || string(value) == "no" || string(value) == "vacant" {
				continue
			}
			words, known := values[string(value)]
			if !known {
				words, known = values["*"]
			}
			if !known {
				continue
			}
			if key(k) == amenity && string(value) == "place_of_worship" {
				if temple, known := temples[string(t[religion])]; known {
					words = temple + " " + words
				}
			}
			if !ok {
				first, ok = words, true
			} else if words != first {
				more = append(more, words)
			}
		}
	}
	if len(more) == 0 {
		return first, ok // no allocation: nearly all places have one kind
	}
	all := strings.Fields(first)
	for _, word := range strings.Fields(strings.Join(more, " ")) {
		if !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return strings.Join(all, " "), ok
}

// appendVicinity appends a short address as far as the map has one: house number and street,
// then the town.
func (t *tags) appendVicinity(b []byte) []byte {
	if len(t[full]) > 0 {
		return append(b, t[full]...)
	}
	from := len(b)
	part := func(value []byte, before string) bool {
		if len(value) == 0 {
			return false
		}
		if len(b) > from {
			b = append(b, before...)
		}
		b = append(b, value...)
		return true
	}
	if road := t[street]; len(road) > 0 || len(t[quarter]) > 0 {
		part(t[housenumber], "")
		_ = part(road, " ") || part(t[quarter], " ")
	}
	_ = part(t[city], ", ") || part(t[town], ", ") || part(t[village], ", ") || part(t[hamlet], ", ") || part(t[suburb], ", ")
	return b
}
