package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// errMoved means that an object is no longer the version that was to be replaced.
var errMoved = errors.New("another process has written the object")

// object is the result of a read.
type object struct {
	body []byte
	etag string
	age  time.Duration // since it was written, by the server's clock; 0 if unknown
}

// errSame means that an object is still the known version.
var errSame = errors.New("the object has not changed")

// read returns fs.ErrNotExist for an object that does not exist.
func (b *bucket) read(ctx context.Context, key string) (object, error) {
	return b.readUnless(ctx, key, "")
}

// readUnless returns errSame if the object still has that ETag.
func (b *bucket) readUnless(ctx context.Context, key, etag string) (object, error) {
	in := &s3.GetObjectInput{Bucket: &b.at.Bucket, Key: b.key(key)}
	if etag != "" {
		in.IfNoneMatch = &etag
	}
	out, err := b.client.GetObject(ctx, in)
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotModified {
		return object{}, errSame
	}
	if err != nil {
		return object{}, b.explain("read", key, err)
	}
	body, err := io.ReadAll(out.Body)
	if err := errors.Join(err, out.Body.Close()); err != nil {
		return object{}, b.explain("read", key, err)
	}
	o := object{body: body, etag: aws.ToString(out.ETag)}
	if now, ok := middleware.GetServerTime(out.ResultMetadata); ok && out.LastModified != nil {
		o.age = now.Sub(*out.LastModified)
	}
	return o, nil
}

func (b *bucket) write(ctx context.Context, key string, body []byte) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.at.Bucket, Key: b.key(key), Body: bytes.NewReader(body)})
	return b.explain("write", key, err)
}

// swap writes an object if it still has that ETag ("" if it must not exist), and returns its new
// ETag. Otherwise the error is errMoved. The content must differ from all earlier contents of the
// object.
func (b *bucket) swap(ctx context.Context, key, etag string, body []byte) (string, error) {
	in := &s3.PutObjectInput{Bucket: &b.at.Bucket, Key: b.key(key), Body: bytes.NewReader(body)}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &etag
	}
	out, cause := b.client.PutObject(ctx, in)
	if cause == nil {
		return aws.ToString(out.ETag), nil
	}
	if !refused(cause) {
		return "", b.explain("write", key, cause)
	}
	// The SDK retries requests without a response. If the first one had succeeded, the retry is
	// refused, and the object is ours.
	now, err := b.read(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errMoved
	case err != nil:
		return "", err
	case bytes.Equal(now.body, body):
		return now.etag, nil
	case now.etag == etag: // conflict with another write, neither was applied
		return "", b.explain("write", key, cause)
	}
	return "", errMoved
}

// refused reports whether the condition of a write did not hold, for one of three reasons: another
// ETag, a concurrent write, no object.
func refused(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey":
		return true
	}
	return false
}

// delete removes an object; with an ETag, only that version. A missing object is not an error.
func (b *bucket) delete(ctx context.Context, key, etag string) error {
	in := &s3.DeleteObjectInput{Bucket: &b.at.Bucket, Key: b.key(key)}
	if etag != "" {
		in.IfMatch = &etag
	}
	_, err := b.client.DeleteObject(ctx, in)
	if err = b.explain("remove", key, err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// list returns the keys below a prefix, without the state's own prefix.
func (b *bucket) list(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	full := *b.key(prefix) + "/"
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.at.Bucket, Prefix: &full})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, b.explain("list", prefix, err)
		}
		for _, o := range page.Contents {
			keys = append(keys, prefix+strings.TrimPrefix(aws.ToString(o.Key), full))
		}
	}
	return keys, nil
}

// remedies explain S3's error codes and what to do. The codes are in the S3 API reference, "Error
// responses".
var remedies = []struct {
	codes  []string
	remedy string
}{
	{[]string{"NoSuchBucket"}, "the bucket does not exist: create it, or correct the bucket in the spec"},
	{
		[]string{"AccessDenied", "Forbidden", "AllAccessDisabled"},
		"the credentials lack permissions: docs/state.md lists those that are needed, including s3:ListBucket",
	},
	{
		[]string{"PermanentRedirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"},
		"the bucket is in another region: correct the region in the spec",
	},
	{
		[]string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"},
		"S3 does not accept the credentials: log in again, or correct the AWS profile or environment",
	},
	{[]string{"NotImplemented"}, "the server does not support conditional writes, which are needed to lock the state: use another server"},
}

// explain turns an SDK error into one clear error.
func (b *bucket) explain(operation, key string, err error) error {
	var api smithy.APIError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &api):
		return fmt.Errorf("%s %s: %w", operation, key, err)
	case api.ErrorCode() == "NoSuchKey":
		return fmt.Errorf("%s %s: %w", operation, key, fs.ErrNotExist)
	}
	text := fmt.Sprintf("%s %s: S3 says %s: %s", operation, key, api.ErrorCode(), api.ErrorMessage())
	for _, row := range remedies {
		for _, code := range row.codes {
			if code == api.ErrorCode() {
				text = fmt.Sprintf("%s %s in bucket %s: %s (S3 says %s)", operation, key, b.at.Bucket, row.remedy+regionOf(err), code)
			}
		}
	}
	return &requestError{text: text, err: err}
}

// requestError shortens a four-line error of the SDK to one sentence.
type requestError struct {
	text string
	err  error
}

func (e *requestError) Error() string { return e.text }
func (e *requestError) Unwrap() error { return e.err }

// regionOf returns the region that S3 suggests, or "".
func regionOf(err error) string {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		if region := response.Response.Header.Get("x-amz-bucket-region"); region != "" && response.HTTPStatusCode() != 404 && response.HTTPStatusCode() != 403 {
			return " to " + region
		}
	}
	return ""
}
