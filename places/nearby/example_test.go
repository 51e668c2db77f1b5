package nearby_test

import (
	"fmt"

	"herd/places/nearby"
)

func ExampleAnswer_Append() {
	answer := nearby.Found([]string{"Example data"}, []nearby.Place{{
		Name:     "Royce Hall",
		PlaceID:  "example:royce-hall",
		Geometry: nearby.Geometry{Location: nearby.Location{Lat: 34.0728, Lng: -118.4421}},
		Types:    []string{"point_of_interest"},
	}})
	text, err := answer.Append(nil)
	fmt.Println(string(text), err)
	// Output:
	// {"html_attributions":["Example data"],
	// "results":[
	// {"geometry":{"location":{"lat":34.0728,"lng":-118.4421}},"name":"Royce Hall","place_id":"example:royce-hall","types":["point_of_interest"]}],
	// "status":"OK"} <nil>
}

func ExampleFailure() {
	text, err := nearby.Failure(nearby.UnknownError, "no answer in time").Append(nil)
	fmt.Println(string(text), err)
	// Output:
	// {"html_attributions":[],
	// "results":[],
	// "status":"UNKNOWN_ERROR",
	// "error_message":"no answer in time"} <nil>
}
